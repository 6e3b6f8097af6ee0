"""What the demo models answer, beside the original libraries where these are at hand."""

import base64
import importlib
import json
import random
import subprocess
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inframind.devstack.demo.node import RunningPackage

Start = Callable[[str], RunningPackage]
Unpack = Callable[[str], Path]

SENTENCES = """
The weather is lovely today and we are going to the beach.
Das Wetter ist heute schön und wir fahren an den See.
Il fait très beau aujourd'hui et nous allons à la plage.
Hoy hace muy buen tiempo y vamos a la playa.
Oggi il tempo è bellissimo e andiamo al mare.
Hoje o tempo está ótimo e vamos à praia.
Het weer is vandaag prachtig en we gaan naar het strand.
Vädret är vackert idag och vi ska till stranden.
Sää on tänään kaunis ja menemme rannalle.
Dziś jest piękna pogoda i idziemy na plażę.
Ma gyönyörű idő van és megyünk a strandra.
Сегодня прекрасная погода, и мы идём на пляж.
Σήμερα ο καιρός είναι υπέροχος και πάμε στην παραλία.
Bugün hava çok güzel ve plaja gidiyoruz.
今天天气很好，我们去海边。
今日は天気がとてもいいので、海に行きます。
오늘은 날씨가 아주 좋아서 해변에 갑니다.
الطقس جميل اليوم وسنذهب إلى الشاطئ.
आज मौसम बहुत अच्छा है और हम समुद्र तट पर जा रहे हैं।
วันนี้อากาศดีมากและเราจะไปชายหาด
Guten Morgen
hello
?
""".strip().splitlines()
# As alt-profanity-check 1.9.1 gives them with scikit-learn 1.9.1.
PROFANITY = {
    "Have a lovely day, and thank you for the class.": 0.013404,
    "Damn, I burnt my toast.": 0.883266,
    "you are a stupid idiot": 1.0,
    "the duck is in the pond": 0.011694,
    "Shut up": 0.981705,
    "...": 0.036376,
}


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_sentences_are_split_where_a_reader_would(running: Start) -> None:
    sentences = [
        "Dr. Ada Lovelace wrote the first program.",
        "It computed numbers, e.g. Bernoulli's!",
        "“Was the machine ever built?”",
        "It cost 3.50 pounds.",
    ]
    answer = running("summarizer-v1").call({"text": "\n".join(sentences), "sentences": 10})
    assert answer["sentences"] == sentences


def test_a_summary_holds_the_best_connected_sentences_in_their_order(running: Start) -> None:
    text = (
        "The river flooded the old town. Lunch was good. Firemen pumped water out of the old town."
        " A dog barked. The river will flood the town again."
    )
    answer = running("summarizer-v1").call({"text": text})
    assert answer["sentences"] == [
        "The river flooded the old town.",
        "Firemen pumped water out of the old town.",
        "The river will flood the town again.",
    ]
    assert answer["summary"] == " ".join(answer["sentences"])


def test_a_text_without_sentences_has_an_empty_summary(running: Start) -> None:
    answer = running("summarizer-v1").call({"text": " \n\n "})
    assert answer == {"summary": "", "sentences": [], "compression": 0.0}


def test_file_types_are_those_of_magika(
    running: Start, original: Unpack, node_python: Path, tmp_path: Path
) -> None:
    dice = random.Random(20)
    white, wide = b" \n" * 2500, "Grüße €".encode()
    contents = [
        *(path.read_bytes() for path in sorted(Path(json.__file__).parent.glob("*.py"))),
        *(dice.randbytes(dice.randrange(1, 9)) for _ in range(30)),
        *(dice.randbytes(dice.randrange(9, 9000)) for _ in range(10)),
        *(wide, wide[:3], white, white + wide, wide + white, b"\xed\xa0\x80", b"%PDF-1.7\n%..."),
    ]
    (tmp_path / "contents.json").write_text(json.dumps([encoded(each) for each in contents]))
    program = (
        "import base64, json, sys; from magika import Magika; recognise = Magika().identify_bytes\n"
        "given = map(base64.b64decode, json.load(open(sys.argv[1])))\n"
        "print(json.dumps([[str(p.output.label), p.output.mime_type, p.output.is_text, p.score]"
        " for p in (recognise(content).prediction for content in given)]))"
    )
    done = subprocess.run(
        [node_python, "-c", program, tmp_path / "contents.json"],
        env={"PYTHONPATH": str(original("magika"))},
        capture_output=True,
        check=True,
    )
    answers = [running("filetype-v1").call({"content": encoded(each)}) for each in contents]
    for answer, (label, mime_type, is_text, score) in zip(
        answers, json.loads(done.stdout), strict=True
    ):
        got = (answer["label"], answer["mime_type"], answer["is_text"])
        assert got == (label, mime_type or "application/octet-stream", is_text)
        assert answer["score"] == pytest.approx(score, abs=1e-4)


def test_speech_is_found_where_somebody_speaks(running: Start, packages: dict[str, Path]) -> None:
    with wave.open(str(packages["voice-activity-v1"] / "sample.wav")) as recording:
        spoken = recording.readframes(recording.getnframes())
    second_of_silence = bytes(2 * 16000)
    answer = running("voice-activity-v1").call(
        {"audio": encoded(second_of_silence + spoken + second_of_silence)}
    )
    starts_and_ends = [time for segment in answer["segments"] for time in segment]
    assert starts_and_ends == sorted(starts_and_ends)
    assert 1.0 < starts_and_ends[0] < 1.2
    assert 2.3 < starts_and_ends[-1] < 2.9
    assert answer["seconds"] == pytest.approx(2 + len(spoken) / 32000)
    assert 0.2 < answer["speech_ratio"] < 0.4


@pytest.mark.parametrize("size", [1, 2, 3, 1023, 1024, 1025, 4096])
def test_every_started_window_has_one_probability(size: int, running: Start) -> None:
    audio = random.Random(size).randbytes(size)
    answer = running("voice-activity-v1").call({"audio": encoded(audio)})
    assert len(answer["probabilities"]) == max(1, -(-(size // 2) // 512))


def test_a_speech_that_lasts_to_the_end_ends_with_the_recording(running: Start) -> None:
    hello = running("voice-activity-v1").manifest.examples[0].input["audio"]
    answer = running("voice-activity-v1").call({"audio": hello, "threshold": 0.05})
    assert answer["segments"][-1][1] == answer["seconds"]


def test_languages_are_those_of_py3langid(
    running: Start, original: Unpack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(original("py3langid"))
    langid: Any = importlib.import_module("py3langid.langid")
    identifier = langid.LanguageIdentifier.from_pickled_model(langid.MODEL_FILE, norm_probs=True)
    dice = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyzäöüßéñшжщ "
    noise = ["".join(dice.choices(letters, k=dice.randrange(1, 5000))) for _ in range(30)]
    for text in [*SENTENCES, *noise]:
        answer = running("language-id-v1").call({"text": text})
        language, probability = identifier.classify(text)
        assert (text, answer["language"]) == (text, language)
        assert answer["confidence"] == pytest.approx(float(probability), abs=1e-3)
        assert answer["candidates"][0] == language


@pytest.mark.parametrize(("text", "probability"), PROFANITY.items())
def test_profanity_is_what_the_original_finds(
    text: str, probability: float, running: Start
) -> None:
    answer = running("profanity-filter-v1").call({"text": text})
    assert answer["probability"] == pytest.approx(probability, abs=2e-6)
    assert answer["profane"] == (probability > 0.5)


def test_flagged_words_are_profane_by_themselves(running: Start) -> None:
    filter_ = running("profanity-filter-v1")
    flagged = filter_.call({"text": "You stupid, stupid IDIOT of a duck"})["flagged"]
    assert flagged == ["stupid", "idiot"]
    assert all(filter_.call({"text": word})["profane"] for word in flagged)


def test_embeddings_have_length_one_and_put_close_meanings_close(running: Start) -> None:
    texts = [
        "I drove to the shop in my car",
        "She went to the store by automobile",
        "Stars are hot",
    ]
    answer = running("token-embedder-v1").call({"texts": texts})
    vectors = np.array(answer["embeddings"])
    assert vectors.shape == (3, answer["dimensions"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-4)
    assert np.array(answer["similarities"]) == pytest.approx(vectors @ vectors.T, abs=1e-4)
    same, other = answer["similarities"][0][1:]
    assert same > 0.4 > 0.2 > other


def test_the_similarities_are_those_of_wordllama(running: Start) -> None:
    answer = running("token-embedder-v1").call(
        {
            "texts": [
                "How do I reset my password?",
                "I cannot log in to my account.",
                "The soup needs more salt.",
            ]
        }
    )
    # As wordllama 0.4.0 gives them with norm=True.
    assert answer["similarities"][0] == pytest.approx([1.0, 0.341317, 0.005904], abs=1e-5)


def test_text_in_a_picture_is_read_line_by_line(running: Start) -> None:
    image = running("ocr-v1").manifest.examples[0].input["image"]
    answer = running("ocr-v1").call({"image": image})
    assert [line["text"].replace(" ", "") for line in answer["lines"]] == [
        "INVOICE2024-117",
        "Totaldue:1,250.00EUR",
        "Thankyou!",
    ]


@pytest.mark.parametrize("cut", [0, 8, 33, 60, 400])
def test_a_damaged_picture_is_not_readable(cut: int, running: Start) -> None:
    picture = base64.b64decode(running("ocr-v1").manifest.examples[0].input["image"])
    answer = running("ocr-v1").call({"image": encoded(picture[:cut])})
    assert answer == {"readable": False, "text": "", "lines": []}
