"""Load a trained run, evaluate it, and extract features with its backbone."""

import argparse

from ssl_lib import load_run
from ssl_lib.evaluation import extract_features, knn_accuracy


def main(run: str) -> None:
    """Prints the evaluation table of the run, then the kNN accuracy for several k from extracted features."""
    trained = load_run(run)
    encoder, evaluator = trained.method.encoder, trained.evaluator
    if evaluator is None:
        raise SystemExit("the run's data have no labels, which the evaluation needs")
    print(evaluator(encoder).table())

    bank, bank_labels = extract_features(encoder, evaluator.bank, size=evaluator.size)
    queries, labels = extract_features(encoder, evaluator.queries, size=evaluator.size)
    for k in (10, 20, 100):
        accuracy = knn_accuracy(queries, labels, bank, bank_labels, num_classes=10, k=k)
        print(f"kNN, k={k:<3d}  {100 * accuracy:.1f} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="the folder of a run, or a checkpoint file")
    main(parser.parse_args().run)
