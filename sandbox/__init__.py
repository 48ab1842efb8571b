"""A stateful payment provider and a CRM to try and test against: separate programs that speak HTTP."""
