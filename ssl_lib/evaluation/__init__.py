"""How good frozen features are."""

from ssl_lib.evaluation.evaluator import Evaluator, format_table
from ssl_lib.evaluation.features import RawPixels, extract_features
from ssl_lib.evaluation.knn import knn_accuracy, knn_scores
from ssl_lib.evaluation.linear import LinearResult, few_labels, linear_probe
from ssl_lib.evaluation.protocols import KNN, EvaluationProtocol, Linear

__all__ = [
    "KNN",
    "EvaluationProtocol",
    "Evaluator",
    "Linear",
    "LinearResult",
    "RawPixels",
    "extract_features",
    "few_labels",
    "format_table",
    "knn_accuracy",
    "knn_scores",
    "linear_probe",
]
