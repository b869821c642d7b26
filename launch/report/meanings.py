"""What the numbers of a log mean, in a line each; of a name that is not here nothing is said."""

from __future__ import annotations

MEANINGS = {
    "data_wait_share": "waiting for data over the whole step; near 0 the loader keeps up",
    "mfu": "model FLOPs utilisation: what was computed over what the device could compute",
    "grad_norm": "of all parameters together, before clipping",
    "skipped": "left out so far, as loss or gradient was not finite",
    "own_intra_logit": "similarity to the clip's own intra-negative, over the temperature",
    "positive_logit": "similarity to the positive, over the temperature",
    "negative_logit": "mean similarity to clips of other videos, over the temperature",
    "positive_similarity": "mean cosine of a clip and its positive",
    "negative_similarity": "mean cosine of a clip and its negatives; near the positive one all clips are alike",
    "same_video_similarity": "mean cosine of the anchor and another moment of its video",
    "shuffled_similarity": "mean cosine of the anchor and its shuffled copy",
    "moment_found": "share of anchors nearer to the same moment than to another one of the video",
    "order_found": "share of anchors nearer to the same moment than to their shuffled copy",
    "found": "share whose positive is the nearest of all candidates",
    "balanced": "mean over the task's classes of the share named right, over the last batches",
    "accuracy": "share named right in this batch",
    "within_video_share": "variance inside of videos over all of it; near 0 the clips of a video are alike",
    "feature_spread": "0: all clips have one feature, collapsed; 1: features fill the sphere",
    "target_spread": "the same of the target network's features: 0 is collapsed",
    "feature_norm": "mean length of a feature",
    "queue_age": "steps since the oldest key was made",
    "key_distance": "of the key network from the trained one, relative to its length",
    "target_distance": "of the target network from the trained one, relative to its length",
    "target_momentum": "share of its old value that the target network keeps in a step",
    "queued_own": "share of samples with a key of their own video in the queue",
    "triplet_margin": "margin loss of anchor, positive and the video's other moment; watched, not trained on",
}
"""By the end of a name."""

_SHARE = "share of this label among those of the last batches"


def meaning(name: str) -> str:
    """Of a logged number, by the end of its name (``metrics.clip_found``); empty where it is not known.

    What a run measures of itself has its own names (``evals.val_accuracy``), which say nothing of a batch.

    >>> meaning("metrics.view1_found")
    'share whose positive is the nearest of all candidates'
    """
    kind, _, plain = name.rpartition(".")
    if kind not in ("", "metrics"):
        return ""
    for end, told in MEANINGS.items():
        if plain == end or plain.endswith(f"_{end}"):
            return told
    before, _, rate = plain.rpartition("_")
    return _SHARE if rate.isdigit() and before.endswith("_share") else ""
