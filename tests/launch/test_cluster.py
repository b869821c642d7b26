import pytest

from data_process.errors import InputError
from launch.cluster import ClusterConfig, parse_minutes, read_cluster


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("30:00", 30),
        ("30:01", 31),
        ("1:30:00", 90),
        ("24:00:00", 1440),
        ("2-12", 3600),
        ("2-12:30", 3630),
        ("2-12:00:30", 3601),
        ("0:30", 1),
    ],
)
def test_times_are_read_as_slurm_reads_them(text, minutes):
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "a day", "1:2:3:4", "-5", "1.5", "1h"])
def test_other_times_are_refused(text):
    with pytest.raises(InputError, match=r"launch\.time"):
        parse_minutes(text)


@pytest.mark.parametrize(
    ("given", "ranks"),
    [
        ({}, 1),
        ({"nodes": 3}, 3),
        ({"nodes": 2, "gpus_per_node": 8}, 16),
        ({"nodes": 2, "gpus_per_node": 8, "tasks_per_node": 1}, 2),
        ({"tasks_per_node": 4}, 4),
    ],
    ids=str,
)
def test_there_is_one_rank_per_gpu_unless_told_otherwise(given, ranks):
    assert ClusterConfig(**given).num_ranks == ranks


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"nodes": 0}, "launch.nodes"),
        ({"gpus_per_node": -1}, "launch.gpus_per_node"),
        ({"mem_gb": -0.5}, "launch.mem_gb"),
        ({"fruitless_starts": 0}, "launch.fruitless_starts"),
        ({"time": "soon"}, "launch.time"),
        ({"time": "3"}, "give 4 minutes or more"),
        ({"time": "10", "signal_delay_s": 600}, "give 12 minutes or more"),
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_is_refused(given, named):
    with pytest.raises(InputError, match=named):
        ClusterConfig(**given)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("launch:\n  time: 24:00:00\n", "launch.time must stand in quotes"),
        ("nodes: 2\n", "expected a section `launch:`"),
        ("launch: {nodes: 2}\nmethod: {}\n", "no `method:`"),
        ("launch: [", "is not YAML"),
    ],
)
def test_a_cluster_file_that_would_be_misread_is_refused(tmp_path, text, told):
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(InputError, match=told):
        read_cluster(tmp_path / "site.yaml")
