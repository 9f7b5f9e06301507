"""Great Expectations' pages on tables, for people to look through."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.suites import Validator, suite
from pipeline.core.tables import Table, read


def build_docs(files: list[tuple[Table, Path]], folder: Path) -> Path:
    """Validate tables and write Great Expectations' Data Docs, a site of static pages.

    Args:
        files: tables and where they lie.
        folder: where to write; pages of the same tables are replaced.

    Returns:
        The first page.
    """
    import great_expectations as gx
    from tqdm import tqdm

    validator = Validator()
    context = validator.context
    context.add_data_docs_site(
        "cose",
        {
            "class_name": "SiteBuilder",
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        },
    )
    for table, path in tqdm(files, desc="data docs", unit="table", disable=None):
        page = "-".join(path.with_suffix("").parts)  # names of pages may hold neither slashes nor dots
        asset = validator.source.add_dataframe_asset(page)
        batch = asset.add_batch_definition_whole_dataframe("all")
        own = suite(table)
        own.name = page
        definition = gx.ValidationDefinition(name=page, data=batch, suite=context.suites.add(own))
        context.validation_definitions.add(definition).run(batch_parameters={"dataframe": read(table, path)})
    context.build_data_docs(site_names=["cose"])
    return folder / "index.html"
