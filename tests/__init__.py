import os

# Triton reads this when it is imported, which torch may do: its kernels are interpreted here.
os.environ.setdefault("TRITON_INTERPRET", "1")
