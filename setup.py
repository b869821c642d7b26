"""Installation of intravid: six top-level packages, the benchmarks that its command runs, and one console script."""

from pathlib import Path

from setuptools import find_packages, setup

ROOMS = ("configs", "data_process", "pipelines", "models", "engine", "launch")
BESIDE = ("benchmarks",)

setup(
    name="intravid",
    version="0.1.0",
    description="Self-supervised video pretraining: from a folder of videos to an evaluated backbone",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[name for room in ROOMS + BESIDE for name in (room, *(f"{room}.{sub}" for sub in find_packages(room)))],
    package_data={"configs": ["**/*.yaml"], "launch.report": ["*.css"]},
    install_requires=[
        "torch>=2.11,<2.14",
        "numpy>=1.26,<3",
        "lmdb>=1.6,<4",
        "msgpack>=1.0.8,<2",
        "ffmpeg-python>=0.2,<0.3",
        "imageio-ffmpeg>=0.6,<1",
        "simplejpeg>=1.8,<2",
        "pillow>=10.4,<14",
        "safetensors>=0.4.3,<1",
        "jsonargparse[signatures]>=4.53,<5",
        "PyYAML>=6.0,<7",
        "rich>=13.7,<16",
        "submitit>=1.5.3,<2",
    ],
    extras_require={
        "dali": ["nvidia-dali-cuda130>=2.2,<3; sys_platform == 'linux'"],
        "dali-cuda12": ["nvidia-dali-cuda120>=2.2,<3; sys_platform == 'linux'"],
        "video": ["av>=13,<20"],
        "flow": ["opencv-python-headless>=4.9,<6"],
        "large-batch": ["pytorch-optimizer>=3.9,<5"],
        "report": ["scikit-learn>=1.4,<2", "tensorboard>=2.16,<3"],
        "wandb": ["wandb>=0.19,<1"],
        "dev": [
            "pytest>=8,<10",
            "pytest-timeout>=2.3,<3",
            "pytest-xdist>=3.6,<4",
            "hypothesis>=6.100,<7",
            "ruff>=0.9,<0.18",
            "pyright[nodejs]>=1.1.390,<2",
            "scikit-learn>=1.4,<2",
            "pytorch-optimizer>=3.9,<5",
        ],
    },
    entry_points={"console_scripts": ["intravid = launch.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
