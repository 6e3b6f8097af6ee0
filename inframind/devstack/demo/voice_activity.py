"""voice-activity-v1: Silero's network over every window of a recording, in one graph."""

import numpy as np
import onnx

from inframind.devstack.demo.graphs import assemble
from inframind.devstack.demo.wheels import Wheels

MODEL = "silero_vad/data/silero_vad_16k_sequence.onnx"


def voice_activity(wheels: Wheels) -> dict[str, bytes]:
    """Return the files of the package that come from silero-vad's wheel."""
    network = onnx.load_from_string(wheels.read("silero_vad", MODEL))
    rest = np.zeros((1, 1, 128), np.float32)
    return {
        "model.onnx": assemble("voice_activity", {"rest": rest}, network),
        "LICENSE": wheels.licence("silero_vad"),
    }
