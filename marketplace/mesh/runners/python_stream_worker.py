"""Holds the publisher's class of a streaming model: several calls' generators take turns here.

Started by `python_stream_runner.py` as `python_worker.py` is by its runner. A message is four bytes
of length, four bytes that number the call, a sign, and the rest. To here: `?` a document, `x` the
call is over. From here: `+` a piece, `.` the end, `-` the error that ended it.
"""

import collections
import json
import os
import pathlib
import select
import struct
import sys
from typing import Any

from python_worker import construct, plain, send, short


def main() -> None:
    """Loads, reports, then gives a piece of each call in turn until the pipe closes."""
    package, entrypoint = pathlib.Path(sys.argv[1]), sys.argv[2]
    questions, answers = int(sys.argv[3]), os.fdopen(int(sys.argv[4]), "wb")
    try:
        model = construct(package, entrypoint)
    except BaseException as error:
        send(answers, b"-" + short(error))
        return
    send(answers, b"+")
    turns: Any = collections.OrderedDict()
    while True:
        while not turns or select.select([questions], [], [], 0)[0]:
            message = receive(questions)
            if message is None:
                return
            number, sign, text = message
            if sign == b"?":
                begin(model, answers, turns, number, text)
            else:
                stop(turns.pop(number, None))
        number, pieces = turns.popitem(last=False)
        try:
            piece = next(pieces)
            if not isinstance(piece, dict):
                raise TypeError(f"predict yielded {type(piece).__name__}, not a dict")
            text = json.dumps(piece, ensure_ascii=False, default=plain).encode("utf-8")
        except StopIteration:
            tell(answers, number, b".")
        except BaseException as error:
            stop(pieces)
            tell(answers, number, b"-" + short(error))
        else:
            turns[number] = pieces
            tell(answers, number, b"+" + text)


def begin(model: Any, answers: Any, turns: Any, number: Any, text: Any) -> None:
    """Takes a call in; what `predict` gives must be an iterator, as a generator is one."""
    try:
        result = model.predict(json.loads(text))
        if isinstance(result, dict | str | bytes) or not hasattr(result, "__iter__"):
            raise TypeError(
                f"predict returned {type(result).__name__}; that of a streaming model yields dicts"
            )
        turns[number] = iter(result)
    except BaseException as error:
        tell(answers, number, b"-" + short(error))


def stop(pieces: Any) -> None:
    """Closes a generator, so that its `finally` runs now."""
    try:
        if hasattr(pieces, "close"):
            pieces.close()
    except BaseException as error:
        # Nobody waits for this call any more, and the others must go on.
        sys.stderr.write(f"{short(error)!r}\n")


def tell(answers: Any, number: Any, message: Any) -> None:
    """One message about one call."""
    send(answers, struct.pack(">I", number) + message)


def receive(questions: Any) -> Any:
    """(number, sign, text) of the next message; None once the pipe is closed."""
    header = exactly(questions, 4)
    if header is None:
        return None
    body = exactly(questions, struct.unpack(">I", header)[0])
    return None if body is None else (struct.unpack(">I", body[:4])[0], body[4:5], body[5:])


def exactly(pipe: Any, size: Any) -> Any:
    """So many bytes, unbuffered: `select` must see what has not been read."""
    data = bytearray()
    while len(data) < size:
        piece = os.read(pipe, size - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)


if __name__ == "__main__":
    main()
