"""Answers with the nonce it was loaded with: whoever could load it commands the server."""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    """Echoes the nonce before whatever text it is sent."""

    def initialize(self, args: Any) -> None:
        """Takes the nonce from the model's configuration."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.nonce = parameters["nonce"]["string_value"].encode()

    def execute(self, requests: Any) -> Any:
        """Answers each request with nonce and text."""
        answers = []
        for request in requests:
            text = pb.get_input_tensor_by_name(request, "document").as_numpy().reshape(-1)[0]
            data = np.array([self.nonce + b" " + text], dtype=object)
            answers.append(pb.InferenceResponse([pb.Tensor("document", data)]))
        return answers
