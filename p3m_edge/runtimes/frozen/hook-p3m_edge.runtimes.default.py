# noqa: N999 - PyInstaller wants the name of the module that is imported
"""A frozen app that calls ``p3m_edge.remove`` gets the artefact of the package."""

from PyInstaller.utils.hooks import collect_data_files

datas = collect_data_files("p3m_edge", includes=["weights/onnx-fp16/*"])
