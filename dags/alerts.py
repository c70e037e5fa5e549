"""Telling the world outside of Airflow of a red run that nobody waits for: one message to an address, such as a chat's webhook."""

import json
import logging
import urllib.request
from collections.abc import Mapping
from typing import Any

from airflow.sdk.log import mask_secret

from feature_definitions import settings

PATIENCE = 10
"""Seconds that an address has to answer."""
STARTED_BY_A_PERSON = ("manual", "backfill")

log = logging.getLogger(__name__)


def tell_of_red(context: Mapping[str, Any]) -> None:
    """Post the line of a failed task to HEADWATER_ALERT_URL, if it is its DAG's last one and no person started the run.

    The last task gives a run its colour, so a run is told of once. An address that does not answer changes nothing.
    """
    ti, run = context["ti"], context["dag_run"]
    url = settings.load(settings.project_folder(None)).alert_url
    if url is None or context["task"].downstream_task_ids or run.run_type in STARTED_BY_A_PERSON:
        return
    mask_secret(url)
    text = f"{run.dag_id}: {context.get('exception')}\n{ti.log_url}"
    request = urllib.request.Request(url, data=json.dumps({"text": text}).encode(), headers={"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310  # settings takes http and https alone
            log.info("told HEADWATER_ALERT_URL")
    except OSError as error:
        log.warning("HEADWATER_ALERT_URL was not told: %s", getattr(error, "reason", error))
