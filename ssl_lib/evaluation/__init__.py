"""How good frozen features are."""

from ssl_lib.evaluation.alignment import alignment, feature_std, uniformity, view_distance
from ssl_lib.evaluation.assignments import assignment_entropy, prototype_entropy, prototype_usage
from ssl_lib.evaluation.evaluator import Evaluator, format_table
from ssl_lib.evaluation.features import RawPixels, extract_features
from ssl_lib.evaluation.knn import knn_accuracy, knn_scores
from ssl_lib.evaluation.linear import LinearResult, few_labels, linear_probe
from ssl_lib.evaluation.protocols import KNN, EvaluationProtocol, Linear
from ssl_lib.evaluation.spectrum import alpha_req, effective_rank, lidar, rankme

__all__ = [
    "KNN",
    "EvaluationProtocol",
    "Evaluator",
    "Linear",
    "LinearResult",
    "RawPixels",
    "alignment",
    "alpha_req",
    "assignment_entropy",
    "effective_rank",
    "extract_features",
    "feature_std",
    "few_labels",
    "format_table",
    "knn_accuracy",
    "knn_scores",
    "lidar",
    "linear_probe",
    "prototype_entropy",
    "prototype_usage",
    "rankme",
    "uniformity",
    "view_distance",
]
