"""Clusters of features: k-means, the clusters of the training images, and labels for them."""

from ssl_lib.clustering.clusters import Clusters, check_clusters
from ssl_lib.clustering.k_means import k_means, nearest_center, spherical_kmeans
from ssl_lib.clustering.labels import cluster_labels, pca_whitened
from ssl_lib.clustering.transport import transport_plan

__all__ = [
    "Clusters",
    "check_clusters",
    "cluster_labels",
    "k_means",
    "nearest_center",
    "pca_whitened",
    "spherical_kmeans",
    "transport_plan",
]
