"""Test of a classifier: scores of a video's clips averaged, then how often the right class is among the best.

N videos, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from engine.features import Average, video_means
from engine.world import World
from models.method import Classifier
from pipelines.batch import ViewBatch


def video_scores(
    classifier: Classifier,
    batches: Iterable[ViewBatch],
    *,
    average: Average,
    world: World,
    label: str,
    total: int,
) -> Tensor:
    """Scores (N, K) of all ranks' videos in rank order, the means over a video's clips, float32 on the CPU.

    Args:
        classifier: judged in eval mode; its mode is restored.
        batches: of this rank, views are clips; rows of the same index follow each other and are averaged.
        average: logits, as IIC (``ft_classify.py``) and CSTP do; or probabilities, as VTDL and DualVar do.
        world: ranks whose parts follow each other.
        label: of the progress display, which only rank 0 shows.
        total: videos of this rank.
    """

    def scores(_: Tensor, clips: Tensor) -> Tensor:
        return clip_scores(classifier.logits(clips), average)

    return video_means(classifier, batches, scores, world=world, label=label, total=total)


def clip_scores(logits: Tensor, average: Average) -> Tensor:
    """What is averaged over clips, of logits (..., K): themselves, or their softmax in float32 at least."""
    if average == "logits":
        return logits
    return (logits if logits.dtype == torch.float64 else logits.float()).softmax(dim=-1)


def confusion_counts(scores: Tensor, labels: Tensor) -> Tensor:
    """Videos by class (row) and by the class of the highest score (column), (K, K) int64.

    Args:
        scores: (N, K).
        labels: (N,) int64 in [0, K).
    """
    classes = scores.shape[1]
    return torch.bincount(labels * classes + scores.argmax(dim=1), minlength=classes**2).reshape(classes, classes)


def accuracies(scores: Tensor, labels: Tensor, ks: Iterable[int] = (1, 5)) -> dict[str, float]:
    """Accuracies in per cent of all videos: ``top1``, ``top5``, and ``class_mean``, the mean over classes of top 1.

    Every video counts once, which IIC's mean over batches does not do. A k that is not below K is left out: it says
    nothing. VTDL reports the mean over classes.

    Args:
        scores: (N, K), N of 1 or more.
        labels: (N,) int64 in [0, K).
        ks: how many of the best classes may hold the right one.
    """
    counts = confusion_counts(scores, labels)
    videos = counts.sum(dim=1)
    found = {
        f"top{k}": 100.0 * float((scores.topk(k, dim=1).indices == labels[:, None]).any(dim=1).double().mean())
        for k in ks
        if k == 1 or k < scores.shape[1]
    }
    share = counts.diagonal()[videos > 0].double() / videos[videos > 0]
    return found | {"class_mean": 100.0 * float(share.mean())}
