"""Opens a graph in a process of its own, so that one that crashes or hangs the library shows here.

Run by `onnx_runner.py` as `python onnx_rehearsal.py <graph>`: status 0, or the reason on stdout.
"""

import sys

import onnxruntime as ort

options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
try:
    ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
except Exception as error:
    lines = str(error).strip().splitlines() or [""]
    sys.stdout.write(f"{type(error).__name__}: {lines[0]}"[:400])
    sys.exit(1)
