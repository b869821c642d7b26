import gc

from pipelines.recycled import RecycledMemory


def test_memory_is_used_again_once_nobody_holds_it_or_a_view_of_it():
    recycled = RecycledMemory()
    first = recycled.take((4, 6))
    place, view = first.data_ptr(), first[1:].permute(1, 0)
    second = recycled.take((4, 6))
    assert second.data_ptr() != place
    del first
    gc.collect()
    view.fill_(7)
    third = recycled.take((4, 6))
    assert third.data_ptr() not in (place, second.data_ptr())
    assert (view == 7).all()
    del view
    gc.collect()
    assert recycled.take((2, 12)).data_ptr() == place


def test_memory_of_another_size_is_let_go():
    recycled = RecycledMemory()
    recycled.take((8,))
    assert recycled.take((9,)).shape == (9,)
    assert not recycled._free or all(memory.numel() == 9 for memory in recycled._free)


def test_tensors_outlive_their_source():
    tensor = RecycledMemory().take((3,))
    gc.collect()
    assert tensor.fill_(2).sum() == 6
