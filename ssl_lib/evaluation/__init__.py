"""Evaluation of frozen and fine-tuned encoders: protocols (registered in `PROTOCOLS`) and label-free metrics."""

from ssl_lib.clustering import k_means
from ssl_lib.evaluation.alignment import alignment, feature_std, uniformity, view_distance
from ssl_lib.evaluation.assignments import assignment_entropy, prototype_entropy, prototype_usage
from ssl_lib.evaluation.base import EvaluatedEncoder, EvaluationProtocol, Features, Scores
from ssl_lib.evaluation.classification import class_report, few_labels
from ssl_lib.evaluation.cluster import Cluster, cluster_scores
from ssl_lib.evaluation.evaluator import Evaluator, add_results, protocol_name, write_results
from ssl_lib.evaluation.features import RawPixels, extract_features, view_features
from ssl_lib.evaluation.fine_tune import FineTune
from ssl_lib.evaluation.knn import KNN, bank_neighbors, knn_accuracy, knn_scores
from ssl_lib.evaluation.linear import Linear, LinearResult, linear_probe
from ssl_lib.evaluation.logistic import Logistic, LogisticResult, logistic_probe, logistic_regression
from ssl_lib.evaluation.low_shot import LowShot
from ssl_lib.evaluation.mixing import Mixing, cutmix, mixup, soft_targets
from ssl_lib.evaluation.retrieval import Retrieval, average_precision, recall_at
from ssl_lib.evaluation.spectrum import Spectrum, alpha_req, effective_rank, explained_variance, lidar, rankme
from ssl_lib.runs.results import Metric, Results, read_results

__all__ = [
    "KNN",
    "Cluster",
    "EvaluatedEncoder",
    "EvaluationProtocol",
    "Evaluator",
    "Features",
    "FineTune",
    "Linear",
    "LinearResult",
    "Logistic",
    "LogisticResult",
    "LowShot",
    "Metric",
    "Mixing",
    "RawPixels",
    "Results",
    "Retrieval",
    "Scores",
    "Spectrum",
    "add_results",
    "alignment",
    "alpha_req",
    "assignment_entropy",
    "average_precision",
    "bank_neighbors",
    "class_report",
    "cluster_scores",
    "cutmix",
    "effective_rank",
    "explained_variance",
    "extract_features",
    "feature_std",
    "few_labels",
    "k_means",
    "knn_accuracy",
    "knn_scores",
    "lidar",
    "linear_probe",
    "logistic_probe",
    "logistic_regression",
    "mixup",
    "protocol_name",
    "prototype_entropy",
    "prototype_usage",
    "rankme",
    "read_results",
    "recall_at",
    "soft_targets",
    "uniformity",
    "view_distance",
    "view_features",
    "write_results",
]
