"""The promises as statements over the tables: each module holds the checks of some of them; db.prove runs them."""
