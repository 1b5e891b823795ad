"""That no import leads back to the module that imports, also through the `__init__` of its own folder.

The contracts in pyproject.toml look at siblings, so they see no cycle that an `__init__` closes.
"""

from __future__ import annotations

import grimp


def test_no_import_leads_back() -> None:
    """Imports inside functions and for type checkers count."""
    graph = grimp.build_graph("greenload", cache_dir=None)
    assert len(graph.modules) > 200
    cycles = [
        (module, *chain)
        for module in sorted(graph.modules)
        for imported in sorted(graph.find_modules_directly_imported_by(module))
        if (chain := graph.find_shortest_chain(importer=imported, imported=module))
    ]
    assert cycles == []
