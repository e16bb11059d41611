"""Names of the words that a kernel is called with."""


class Slots:
    """Names of the words of the argument array."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.index = {name: i for i, name in enumerate(names)}

    def __getitem__(self, name: str) -> str:
        return f"a[{self.index[name]}]"

    def words(self) -> dict[str, str]:
        """C expressions of all words."""
        return {name: self[name] for name in self.names}

    def pointer(self, name: str, constant: bool = True) -> str:
        """C expression of a pointer argument."""
        return f"(({'const ' if constant else ''}real*){self[name]})"


HEAD = (
    "T",
    "B",
    "H",
    "P",
    "I",
    "threads",
    "reverse",
    "sizes",
    "offsets",
    "bounds",
    "most",
    "together",
)
TOOLS = ("parallel", "number", "team", "work", "shared_size", "joint_size", "work_size")
