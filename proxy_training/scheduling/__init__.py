"""Many groups over processes, GPUs and Ray, and how they stand."""
