"""A shop that sells CDs: an order takes stock, a card payment and a courier, or none of them.

| file | |
|---|---|
| `app` | the Celery app and the saga: start here |
| `tasks` | its steps: ordinary Celery tasks, each with one that undoes it |
| `tables` | the shop's own tables |
| `purchases` | real orders to replay |
| `faults` | the bad luck of the demo |
| `audit` | whether the books are right afterwards |
| `demo` | `python -m saga.examples.shop`: a thousand orders, and a worker killed in their midst |
"""
