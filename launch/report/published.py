"""Numbers that the papers and their READMEs report, by recipe; none of them was measured here."""

from __future__ import annotations

from dataclasses import dataclass

KS = (1, 5, 10, 20, 50)


@dataclass(frozen=True)
class Published:
    """Figures of one recipe, per cent.

    Attributes:
        recipe: name of the file in configs/pretrain/, without its ending.
        source: where they stand.
        retrieval: recall at `KS` on UCF101, or None.
        finetuned: top-1 on UCF101 and on HMDB51 after fine-tuning, each or None.
    """

    recipe: str
    source: str
    retrieval: tuple[float, float, float, float, float] | None = None
    finetuned: tuple[float | None, float | None] = (None, None)

    @property
    def by_measure(self) -> dict[str, float]:
        """Retrieval under the names of our measures, and the two figures of fine-tuning."""
        named = {f"retrieve@{k}": value for k, value in zip(KS, self.retrieval or (), strict=False)}
        of_sets = zip(FINETUNED, self.finetuned, strict=True)
        return named | {name: value for name, value in of_sets if value is not None}


FINETUNED = ("fine-tuned, UCF101", "fine-tuned, HMDB51")

_IIC = "README of IIC's release, split 1 of UCF101; features of both views merged"
_IIC_MEAN = "README of IIC's release, mean of three splits of UCF101"
_DUALVAR = "README of DualVar's release"
_VTDL = "README of VTDL's release, one clip a video; it does not say what was pretrained on"

PUBLISHED = (
    Published("iic_r3d_ucf101", _IIC, (36.5, 54.1, 62.9, 72.4, 83.4), (72.8, 35.3)),
    Published("iic_r3d_shuffle_ucf101", _IIC, (34.6, 53.0, 62.3, 71.7, 82.4), (74.4, 38.3)),
    Published("iic_r3d_flow_u_ucf101", _IIC, (41.8, 60.4, 69.5, 78.4, 87.7), (72.7, 36.8)),
    Published("iic_r3d_shuffle_flow_v_ucf101", _IIC, (42.4, 60.9, 69.2, 77.1, 86.5), (67.0, 34.0)),
    Published("iic_r3d_none_ucf101", _IIC, (26.4, 37.7, 45.1, 53.2, 66.3)),
    Published("iic_c3d_ucf101", _IIC_MEAN, (31.9, 48.2, 57.3, 67.1, 79.1), (70.0, 30.8)),
    Published("iic_c3d_shuffle_ucf101", _IIC_MEAN, (28.9, 45.4, 55.5, 66.2, 78.8), (69.7, 29.7)),
    Published("iic_r21d_ucf101", _IIC_MEAN, (34.7, 51.7, 60.9, 69.4, 81.9), (72.4, 34.0)),
    Published("iic_r21d_shuffle_ucf101", _IIC_MEAN, (30.2, 45.6, 55.0, 64.4, 77.6), (73.3, 31.2)),
    Published("iic_r3d_18_ucf101", _IIC_MEAN, (36.8, 54.1, 63.1, 72.0, 83.3), (72.4, 34.3)),
    Published("iic_r3d_18_shuffle_ucf101", _IIC_MEAN, (33.0, 49.2, 59.1, 69.1, 80.6), (73.1, 34.3)),
    Published("vtdl_i3d_ucf101_no_tca", _VTDL, None, (72.7, None)),
    Published("vtdl_i3d_hmdb51_no_tca", _VTDL, None, (None, 41.2)),
    Published("vtdl_i3d_ucf101", _VTDL, None, (82.3, None)),
    Published("vtdl_i3d_hmdb51", _VTDL, None, (None, 52.9)),
    Published(
        "dualvar_simclr_r21d_ucf101",
        f"{_DUALVAR}; its table of retrieval names R(2+1)D alone, not the framework",
        (46.7, 63.1, 69.7, 78.0, 87.8),
        (79.0, 45.4),
    ),
    Published("dualvar_moco_r21d_ucf101", _DUALVAR, None, (78.5, 47.5)),
    Published("dualvar_simclr_r21d_k400", _DUALVAR, None, (82.0, 51.2)),
)
"""All that is known; the README of CSTP gives no number."""
