"""language-id-v1: py3langid's automaton and naive Bayes tables as one graph."""

import lzma
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inframind.devstack.demo import pickles
from inframind.devstack.demo.graphs import assemble
from inframind.devstack.demo.wheels import Wheels

# fmt: off
NAMES = {
    "af": "Afrikaans", "am": "Amharic", "an": "Aragonese", "ar": "Arabic", "as": "Assamese",
    "az": "Azerbaijani", "be": "Belarusian", "bg": "Bulgarian", "bn": "Bengali", "br": "Breton",
    "bs": "Bosnian", "ca": "Catalan", "cs": "Czech", "cy": "Welsh", "da": "Danish",
    "de": "German", "dz": "Dzongkha", "el": "Greek", "en": "English", "eo": "Esperanto",
    "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish",
    "fo": "Faroese", "fr": "French", "ga": "Irish", "gl": "Galician", "gu": "Gujarati",
    "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "ht": "Haitian Creole", "hu": "Hungarian",
    "hy": "Armenian", "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese",
    "jv": "Javanese", "ka": "Georgian", "kk": "Kazakh", "km": "Khmer", "kn": "Kannada",
    "ko": "Korean", "ku": "Kurdish", "ky": "Kyrgyz", "la": "Latin", "lb": "Luxembourgish",
    "lo": "Lao", "lt": "Lithuanian", "lv": "Latvian", "mg": "Malagasy", "mk": "Macedonian",
    "ml": "Malayalam", "mn": "Mongolian", "mr": "Marathi", "ms": "Malay", "mt": "Maltese",
    "nb": "Norwegian Bokmål", "ne": "Nepali", "nl": "Dutch", "nn": "Norwegian Nynorsk",
    "no": "Norwegian", "oc": "Occitan", "or": "Odia", "pa": "Punjabi", "pl": "Polish",
    "ps": "Pashto", "pt": "Portuguese", "qu": "Quechua", "ro": "Romanian", "ru": "Russian",
    "rw": "Kinyarwanda", "se": "Northern Sami", "si": "Sinhala", "sk": "Slovak",
    "sl": "Slovenian", "sq": "Albanian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili",
    "ta": "Tamil", "te": "Telugu", "th": "Thai", "tl": "Tagalog", "tr": "Turkish",
    "ug": "Uyghur", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "vo": "Volapük",
    "wa": "Walloon", "xh": "Xhosa", "zh": "Chinese", "zu": "Zulu",
}
# fmt: on


def language_id(wheels: Wheels) -> dict[str, bytes]:
    """Return the files of the package that come from py3langid's wheel."""
    packed = wheels.read("py3langid", "py3langid/data/model.plzma")
    weights, priors, codes, transitions, features = pickles.read(lzma.decompress(packed))
    tables = constants(weights.reshape(-1, len(codes)), priors, codes, transitions, features)
    return {"model.onnx": assemble("language_id", tables)}


def constants(
    weights: NDArray[np.float32],
    priors: NDArray[np.float32],
    codes: list[str],
    transitions: NDArray[np.uint16],
    features: dict[int, tuple[int, ...]],
) -> dict[str, NDArray[Any]]:
    """Return the graph's tables, with the weights of features summed for the states they mark.

    `weights` are log-probabilities of shape [features, languages], `transitions` the automaton's
    next state for each state and byte, flat, `features` the rows that each state counts for.
    """
    states = len(transitions) // 256
    by_state = np.zeros((states, len(codes)), np.float64)
    for state, rows in features.items():
        by_state[state] = weights[list(rows)].sum(axis=0, dtype=np.float64)
    return {
        "transitions": transitions,
        "log_probabilities": by_state.astype(np.float32),
        "priors": priors,
        "no_counts": np.zeros(states, np.float32),
        "unit": np.ones(1, np.float32),
        "codes_of_languages": np.array(codes),
        "names": np.array([NAMES[code] for code in codes]),
    }
