"""With this folder on its path, Python says that it runs on a Mac, and finds the stand-in for coremltools beside it."""

import platform

platform.system = lambda: "Darwin"
platform.mac_ver = lambda *_: ("15.1", ("", "", ""), "arm64")
