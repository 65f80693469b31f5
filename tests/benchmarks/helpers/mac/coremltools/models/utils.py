import shutil


def compile_model(model, destination_path):
    return shutil.copytree(model, destination_path)
