"""The work: one module per stage, and what runs them. The only dramatiq and pika."""
