"""The recurrence printed as one C file, compiled by the system, loaded by ctypes."""
