"""filetype-v1: Google's magika network, its feature extraction and its decision in one graph."""

import json
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from inframind.devstack.demo.graphs import assemble
from inframind.devstack.demo.wheels import Wheels

MODEL = "magika/models/standard_v3_3"
WHITE_SPACE = b" \t\n\r\x0b\x0c"
PADDING = 256
# For each state of a UTF-8 decoder, the bytes that lead on and the state that they lead to.
UTF8_STATES: tuple[tuple[tuple[int, int, int], ...], ...] = (
    (
        *((0x00, 0x7F, 0), (0xC2, 0xDF, 1), (0xE0, 0xE0, 2), (0xE1, 0xEC, 3), (0xED, 0xED, 4)),
        *((0xEE, 0xEF, 3), (0xF0, 0xF0, 5), (0xF1, 0xF3, 6), (0xF4, 0xF4, 7)),
    ),
    ((0x80, 0xBF, 0),),
    ((0xA0, 0xBF, 1),),
    ((0x80, 0xBF, 1),),
    ((0x80, 0x9F, 1),),
    ((0x90, 0xBF, 3),),
    ((0x80, 0xBF, 3),),
    ((0x80, 0x8F, 3),),
    (),
)


def filetype(wheels: Wheels) -> dict[str, bytes]:
    """Return the files of the package that come from magika's wheel."""
    config = json.loads(wheels.read("magika", f"{MODEL}/config.min.json"))
    knowledge = json.loads(wheels.read("magika", "magika/config/content_types_kb.min.json"))
    network = onnx.load_from_string(wheels.read("magika", f"{MODEL}/model.onnx"))
    return {"model.onnx": assemble("filetype", constants(config, knowledge), network)}


def constants(config: dict[str, Any], knowledge: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Return magika's settings as the tables that the graph looks things up in."""
    guesses: list[str] = config["target_labels_space"]
    labels = sorted({*guesses, "txt", "unknown"})
    trusted = [config["overwrite_map"].get(guess, guess) for guess in guesses]
    generic = ["txt" if knowledge[label]["is_text"] else "unknown" for label in trusted]
    default = config["medium_confidence_threshold"]

    def column(key: str, otherwise: str) -> NDArray[Any]:
        return np.array([knowledge[label][key] or otherwise for label in labels])

    decoder = utf8_decoder()
    return {
        "window": np.arange(config["beg_size"]).reshape(1, -1),
        "is_ink": np.array([byte not in WHITE_SPACE for byte in range(256)], np.int32),
        "thresholds": np.array([config["thresholds"].get(g, default) for g in guesses], np.float32),
        "label_when_trusted": np.array([labels.index(label) for label in trusted]),
        "label_when_not": np.array([labels.index(label) for label in generic]),
        "text_label": np.array(labels.index("txt")),
        "unknown_label": np.array(labels.index("unknown")),
        "utf8_start": decoder[0],
        "utf8_next": decoder.reshape(-1),
        "labels": np.array(labels),
        "mime_types": column("mime_type", "application/octet-stream"),
        "groups": column("group", "unknown"),
        "descriptions": column("description", "Unknown content"),
        "texts": np.array([bool(knowledge[label]["is_text"]) for label in labels]),
    }


def utf8_decoder() -> NDArray[np.int64]:
    """Return the state after each state (row) and token (column): 0 is whole, the last is wrong."""
    wrong = len(UTF8_STATES) - 1
    table = np.full((len(UTF8_STATES), PADDING + 1), wrong)
    for state, ranges in enumerate(UTF8_STATES):
        table[state, PADDING] = state
        for first, last, following in ranges:
            table[state, first : last + 1] = following
    return table
