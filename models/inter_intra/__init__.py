"""How IIC's views are contrasted: with memory banks, with queues of keys, or within the global batch."""
