"""The conformance kit: what a norm, a task, a probe and an executor are held to."""
