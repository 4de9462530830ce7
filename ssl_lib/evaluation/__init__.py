"""How good a representation is; the protocols register themselves in `PROTOCOLS`."""

from ssl_lib.evaluation.alignment import alignment, feature_std, uniformity, view_distance
from ssl_lib.evaluation.assignments import assignment_entropy, prototype_entropy, prototype_usage
from ssl_lib.evaluation.base import EvaluationProtocol, Features, Measure, Scores, Subject
from ssl_lib.evaluation.evaluator import Evaluator, Results, read_results, write_results
from ssl_lib.evaluation.features import RawPixels, extract_features
from ssl_lib.evaluation.knn import KNN, knn_accuracy, knn_scores, nearest
from ssl_lib.evaluation.linear import Linear, LinearResult, few_labels, linear_probe
from ssl_lib.evaluation.spectrum import alpha_req, effective_rank, lidar, rankme

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
    "alignment",
    "alpha_req",
    "assignment_entropy",
    "effective_rank",
    "extract_features",
    "feature_std",
    "few_labels",
    "knn_accuracy",
    "knn_scores",
    "lidar",
    "linear_probe",
    "nearest",
    "prototype_entropy",
    "prototype_usage",
    "rankme",
    "read_results",
    "uniformity",
    "view_distance",
    "write_results",
]
