"""The task of groups that ask for approval: it asks a person in Airflow, with two buttons, what becomes of a run that waits."""

from collections.abc import Mapping
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

from dags.operators import OfDay, span_of

PUBLISH, REFUSE = "Publish", "Refuse"


class ApproveOperator(OfDay, HITLOperator):  # type: ignore[misc]  # mypy does not follow airflow
    """Ask a person about the run that computed the data day, without a worker meanwhile, and carry out what is answered.

    The answer is about the run that was shown: where another one took its place meanwhile, nothing is published and the task is red.
    """

    def __init__(self, **options: Any) -> None:
        """Ask with two buttons, and for a reason."""
        reason = Param(None, type=["null", "string"], description="why; it is kept where a run is refused")
        super().__init__(subject="Is this published?", options=[PUBLISH, REFUSE], params={"reason": reason}, **options)

    def execute(self, context: Mapping[str, Any]) -> None:
        """Ask, if the data day waits for a person; else there is nothing to do."""
        schedule, span = self.group_schedule, span_of(context, self.group_schedule)
        day = self.day(span)
        if day.run is None:
            raise AirflowSkipException(f"{schedule.group} {schedule.named(span)} waits for no person")
        self.subject, self.body = f"Publish {schedule.group} {schedule.named(span)}?", day.line
        try:
            HITLOperator.execute(self, context)
        except TaskAwaitingInput as awaiting:
            raise TaskAwaitingInput(method_name=awaiting.method_name, kwargs={"run": day.run}, timeout=awaiting.timeout) from None

    def execute_complete(self, context: Mapping[str, Any], event: dict[str, Any], run: str) -> None:
        """Publish or refuse the run that was shown."""
        answer = HITLOperator.execute_complete(self, context, event)
        words = ("publish", self.group_schedule.group, "--run", run)
        reason = answer["params_input"].get("reason")
        self.call(*words, *(("--refuse", "--reason", reason or "") if answer["chosen_options"] == [REFUSE] else ()))
