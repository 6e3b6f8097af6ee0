"""Holds the publisher's class in a process of its own: it may crash, exit or hang alone.

Started by `python_runner.py` as `python python_worker.py <package> <entrypoint> <in fd> <out fd>`.
Each message is four bytes of length and that many bytes; an answer begins with `+` or `-`.
"""

import importlib.util
import json
import os
import pathlib
import struct
import sys
from typing import Any


def main() -> None:
    """Loads, reports, then answers documents until the pipe closes."""
    package, entrypoint = pathlib.Path(sys.argv[1]), sys.argv[2]
    questions, answers = os.fdopen(int(sys.argv[3]), "rb"), os.fdopen(int(sys.argv[4]), "wb")
    try:
        model = construct(package, entrypoint)
    except BaseException as error:
        send(answers, b"-" + short(error))
        return
    send(answers, b"+")
    while header := questions.read(4):
        text = questions.read(struct.unpack(">I", header)[0])
        try:
            result = model.predict(json.loads(text))
            if not isinstance(result, dict):
                raise TypeError(f"predict returned {type(result).__name__}, not a dict")
            answer = json.dumps(result, ensure_ascii=False, default=plain).encode("utf-8")
            send(answers, b"+" + answer)
        except BaseException as error:
            send(answers, b"-" + short(error))


def construct(package: Any, entrypoint: Any) -> Any:
    """An instance of the entry point's class."""
    file_name, _, class_name = entrypoint.partition(":")
    sys.path.insert(0, str(package))
    name = pathlib.PurePosixPath(file_name).stem
    spec = importlib.util.spec_from_file_location(name, package / file_name)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file_name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return getattr(module, class_name)(package)


def send(pipe: Any, message: Any) -> None:
    """One length-prefixed message."""
    pipe.write(struct.pack(">I", len(message)) + message)
    pipe.flush()


def plain(value: Any) -> Any:
    """JSON form of numpy values."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def short(error: Any) -> Any:
    """One line for a person, without a traceback."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:400].encode("utf-8", "replace")


if __name__ == "__main__":
    main()
