"""log Z without sampling: enumeration, elimination, and the plan that chooses between them."""
