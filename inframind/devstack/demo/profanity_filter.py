"""profanity-filter-v1: the weights of alt-profanity-check as plain arrays."""

import io

import numpy as np

from inframind.devstack.demo import pickles
from inframind.devstack.demo.wheels import Wheels


def profanity_filter(wheels: Wheels) -> dict[str, bytes]:
    """Return the files of the package that come from alt-profanity-check's wheel."""
    name = "alt_profanity_check"
    vectorizer = pickles.read(wheels.read(name, "profanity_check/data/vectorizer.joblib"))
    classifier = pickles.read(wheels.read(name, "profanity_check/data/model.joblib"))
    vocabulary: dict[str, int] = vectorizer.vocabulary_
    machines = [member.estimator for member in classifier.calibrated_classifiers_]
    sigmoids = [member.calibrators[0] for member in classifier.calibrated_classifiers_]
    weights = io.BytesIO()
    np.savez(
        weights,
        idf=vectorizer._tfidf.idf_.numbers,
        coefficients=np.concatenate([machine.coef_.numbers for machine in machines]),
        intercepts=np.concatenate([machine.intercept_.numbers for machine in machines]),
        slopes=np.array([sigmoid.a_ for sigmoid in sigmoids]),
        offsets=np.array([sigmoid.b_ for sigmoid in sigmoids]),
    )
    return {
        "vocabulary.txt": "\n".join(sorted(vocabulary, key=vocabulary.__getitem__)).encode(),
        "weights.npz": weights.getvalue(),
        "LICENSE": wheels.licence(name),
    }
