"""How good a representation is; the protocols register themselves in `PROTOCOLS`."""

from ssl_lib.evaluation.base import EvaluationProtocol, Features, Measure, Scores, Subject
from ssl_lib.evaluation.evaluator import Evaluator, Results, read_results, write_results
from ssl_lib.evaluation.features import RawPixels, extract_features
from ssl_lib.evaluation.knn import KNN, knn_accuracy, knn_scores, nearest
from ssl_lib.evaluation.linear import Linear, LinearResult, few_labels, linear_probe

__all__ = [
    "KNN",
    "EvaluationProtocol",
    "Evaluator",
    "Features",
    "Linear",
    "LinearResult",
    "Measure",
    "RawPixels",
    "Results",
    "Scores",
    "Subject",
    "extract_features",
    "few_labels",
    "knn_accuracy",
    "knn_scores",
    "linear_probe",
    "nearest",
    "read_results",
    "write_results",
]
