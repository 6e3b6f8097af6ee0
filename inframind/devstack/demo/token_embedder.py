"""token-embedder-v1: WordLlama's weights and tokenizer, as its wheel ships them."""

from inframind.devstack.demo.wheels import Wheels


def token_embedder(wheels: Wheels) -> dict[str, bytes]:
    """Return the files of the package that come from wordllama's wheel."""
    weights = wheels.read("wordllama", "wordllama/weights/l2_supercat_256.safetensors")
    tokenizer = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"
    return {
        "weights.safetensors": weights,
        "tokenizer.json": wheels.read("wordllama", tokenizer),
        "LICENSE": wheels.licence("wordllama"),
    }
