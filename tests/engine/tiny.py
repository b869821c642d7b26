"""A small method with all kinds of state, and batches that follow from (seed, step) alone."""

import time

import numpy as np
import torch
from torch import nn

from engine.checkpoint import RunFacts
from engine.optim import OptimConfig
from engine.precision import PrecisionConfig
from engine.resume import Resume
from engine.schedule import ScheduleConfig
from engine.stop import StopFlag
from engine.train_config import TrainConfig
from engine.trainer import train
from engine.world import World
from models.backbone import Backbone
from models.gather import gather_rows
from models.method import Method, MethodOutput
from models.pending import Pending
from pipelines.batch import ViewBatch
from pipelines.order import rank_slice, step_indices
from pipelines.plan import DIGESTS, ClipFormat

NUM_SAMPLES = 24


class TinyBackbone(Backbone):
    out_dim = 4

    def __init__(self, *, norm=True):
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, padding=1, bias=not norm)
        self.norm = nn.BatchNorm3d(4) if norm else nn.Identity()

    def parts(self):
        return self.conv, self.norm, nn.ReLU()


class TinyMethod(Method):
    """Regression of a bank row, with dropout, batch norm, and a bank that follows the features."""

    def __init__(self, *, norm=True, dropout=0.5, poison_at=None):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = TinyBackbone(norm=norm)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(4, 2))
        self.register_buffer("bank", torch.zeros(NUM_SAMPLES, 2))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.poison_at = poison_at
        self._pending = Pending()

    @property
    def clip_format(self):
        return ClipFormat(1, 2, 4)

    def planner(self):
        raise NotImplementedError

    def forward(self, batch):
        features = self.head(self.backbone.pooled(batch.clips[0]))
        self._pending.add(batch, index=batch.index, features=features.float())
        loss = (features - batch.targets["value"]).pow(2).mean()
        if self.poison_at is not None and int(self.calls) >= self.poison_at:
            loss = loss / 0.0
        away = 0.1 * (features - self.bank[batch.index]).pow(2).mean()
        return MethodOutput({"value": loss, "bank": away}, {"spread": features.detach().std()})

    def after_step(self):
        index, features = (gather_rows(rows) for rows in self._pending.take().values())
        self.bank[index] = 0.5 * self.bank[index] + 0.5 * features
        self.calls += 1


class TinyLoader:
    """This rank's part of random clips; each sample follows from (seed, step, its index)."""

    wait_s = 0.0
    steps_per_epoch = NUM_SAMPLES // 8

    def __init__(self, *, seed=1, rank=0, world_size=1, pause_s=0.0, ends_after=None, global_batch=8):
        self.global_batch, self.steps_per_epoch = global_batch, NUM_SAMPLES // global_batch
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.pause_s, self.ends_after = pause_s, ends_after

    def batches(self, start_step):
        step = start_step
        while self.ends_after is None or step < self.ends_after:
            time.sleep(self.pause_s)
            everything = step_indices(self.seed, step, global_batch=self.global_batch, num_samples=NUM_SAMPLES)
            index = rank_slice(everything, rank=self.rank, world_size=self.world_size)
            drawn = [np.random.default_rng([self.seed, step, sample]).normal(size=98) for sample in index]
            values = torch.from_numpy(np.stack(drawn).astype(np.float32))
            clips = values[:, :96].reshape(-1, 3, 2, 4, 4)
            digest = sum(hash((step, int(sample))) for sample in index) % DIGESTS
            yield ViewBatch((clips,), torch.from_numpy(index.copy()), {"value": values[:, 96:]}, digest)
            step += 1


def run_tiny(
    run_dir,
    *,
    world=None,
    stop=None,
    method=None,
    loader=None,
    optim=None,
    seed=1,
    pause_s=0.0,
    watchdog=None,
    profile=None,
    precision=None,
    resume=Resume(),  # noqa: B008
    **options,
):
    """Train the tiny method for 24 steps unless told otherwise: the outcome and the method."""
    world = world or World()
    method = method or TinyMethod()
    options = {"steps": 24, "global_batch": 8, "log_every": 2, "save_every": 3, "tensorboard": False} | options
    outcome = train(
        method,
        loader
        or TinyLoader(
            seed=seed,
            rank=world.rank,
            world_size=world.world_size,
            pause_s=pause_s,
            global_batch=options["global_batch"],
        ),
        config=TrainConfig(seed=seed, **options),
        optim=optim or OptimConfig(lr=0.1),
        schedule=ScheduleConfig("cosine", warmup=3),
        precision=precision or PrecisionConfig(),
        run_dir=run_dir,
        world=world,
        stop=stop or StopFlag(world),
        facts=RunFacts(seed, options["global_batch"], "digest"),
        watchdog=watchdog,
        profile=profile,
        resume=resume,
    )
    return outcome, method
