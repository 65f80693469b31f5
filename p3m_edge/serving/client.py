"""A frame to a server, its alpha back, over HTTP: python client.py HOST:PORT CAMERA|PICTURE ALPHA.png."""

import json
import sys
from http.client import HTTPConnection, HTTPException
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LENGTH = "Inference-Header-Content-Length"


def matte(server: str, frame: NDArray[Any], model: str = "matting") -> NDArray[np.float32]:
    """The alpha ``[H, W]`` (0..1) of a frame ``[H, W, 3]`` (uint8, BGR, as OpenCV gives it).

    Raises ``ValueError`` where the server is not there, or speaks no version 2 of the KServe protocol, or has another
    model by that name; or where the frame is none.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.shape[2:] != (3,) or not frame.size:
        raise ValueError("a frame is an array [H, W, 3] of uint8")
    connection = HTTPConnection(server, timeout=60)
    try:
        binary = "binary_tensor_data" in _ask(connection, "/v2").get("extensions", ())
        described = _ask(connection, f"/v2/models/{model}")
        image = described["inputs"][0]
        if (image["datatype"], image["shape"][-1]) != ("UINT8", 3):
            raise ValueError(f"{model} takes {image}, which is no frame")
        _, height, width, _ = image["shape"]
        if height < 0:  # any multiple of 32
            height, width = (max(32, side // 32 * 32) for side in frame.shape[:2])
        pixels = cv2.cvtColor(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        sent: dict[str, Any] = {"name": image["name"], "datatype": "UINT8", "shape": [1, height, width, 3]}
        sent |= {"parameters": {"binary_data_size": pixels.nbytes}} if binary else {"data": pixels.ravel().tolist()}
        wanted = [{"name": "alpha"} | ({"parameters": {"binary_data": True}} if binary else {})]
        head = json.dumps({"inputs": [sent], "outputs": wanted}).encode()
        found = _ask(connection, f"/v2/models/{model}/infer", head, pixels.tobytes() if binary else b"")["outputs"][0]
        alpha = np.asarray(found["data"], np.float32).reshape(height, width)
    except (OSError, HTTPException, KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{server} serves no {model!r} by version 2 of the KServe protocol: {error}") from error
    finally:
        connection.close()
    return np.asarray(cv2.resize(alpha, (frame.shape[1], frame.shape[0])), np.float32)


def _ask(connection: HTTPConnection, path: str, head: bytes = b"", tail: bytes = b"") -> Any:
    """The server's JSON; the values of an output that came in binary form are its ``data``."""
    headers = {"Content-Type": "application/json"} | ({LENGTH: str(len(head))} if tail else {})
    connection.request("POST" if head else "GET", path, head + tail or None, headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise ValueError(f"{path} gives {answer.status} {answer.reason}: {body[:200].decode(errors='replace')}")
    length = int(answer.headers.get(LENGTH, len(body)))
    document = json.loads(body[:length])
    if len(body) > length:
        document["outputs"][0]["data"] = np.frombuffer(body[length:], "<f4")
    return document


def main(words: list[str]) -> str | None:
    """The error, if there is one."""
    if len(words) != 3:
        return __doc__
    address, source, out = words
    read, picture = cv2.VideoCapture(int(source) if source.isdigit() else source).read()
    if not read:
        return f"{source} gives no frame"
    try:
        written = cv2.imwrite(out, np.rint(matte(address, picture) * 255).astype(np.uint8))
    except (ValueError, cv2.error) as error:
        return " ".join(str(error).split())
    return None if written else f"{out} cannot be written"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
