"""Preparation of a request: its model, its conversation with all that it continues, and the run that answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from serving.answering.answerers import AskedModel
from serving.answering.reasoning import ReasoningLimits, reasoning_limits
from serving.answering.request_context import RequestContext
from serving.api.context import ApiContext
from serving.api.openai.responses.archive import Earlier, ResponseArchive, ResponseRecord
from serving.api.openai.responses.background import BackgroundRun
from serving.api.openai.responses.conversation_archive import ConversationArchive
from serving.api.openai.responses.draft import draft_response
from serving.api.openai.responses.inflight import InFlight
from serving.api.openai.responses.input import StoredItem, stored_item, user_item
from serving.api.openai.responses.items import ItemReference
from serving.api.openai.responses.mapping import constraints_in, responses_generation
from serving.api.openai.responses.request import CompactRequest, ResponsesRequest
from serving.api.openai.responses.run import ResponseRun, ResponseStorage
from serving.api.openai.responses.sealed import needs_seal, opened, unsealed
from serving.api.openai.responses.toolbox import Toolbox
from serving.api.unenforced import unenforced
from serving.errors import ResponseNotFoundError
from serving.generation.answerer import Answerer
from serving.generation.types import ChatGeneration
from serving.sealing import Seal, Seals
from serving.settings.models import ModelSettings
from serving.settings.storage import ResponsesSettings


@dataclass(frozen=True, slots=True)
class Preparation:
    """One request, prepared: `new` are its own items, `earlier` what they continue, `seal` that of team and model."""

    token: str
    created_at: float
    generation: ChatGeneration
    new: list[StoredItem]
    earlier: Earlier
    toolbox: Toolbox
    seal: Seal | None


class Preparer:
    """Maker of prepared requests and their runs, for all teams."""

    def __init__(
        self,
        context: ApiContext,
        archive: ResponseArchive,
        conversations: ConversationArchive,
        seals: Seals,
        settings: ResponsesSettings,
    ) -> None:
        self.archive = archive
        self.conversations = conversations
        self.in_flight = InFlight(archive)
        self._context = context
        self._seals = seals
        self._settings = settings

    async def run(self, asker: RequestContext, asked: ResponsesRequest) -> tuple[ResponseRun, dict[str, str]]:
        """The run that answers `asked`, and the headers of its reply."""
        model, limits = self._model(asker, asked)
        prepared = await self.prepared(asker, asked, model.name, model.settings, limits)
        constraints = constraints_in(asked, prepared.toolbox)
        generation, answerer = model.chat(prepared.generation, constraints=constraints)
        draft = draft_response(
            asked,
            response_id=f"resp_{prepared.token}",
            created_at=int(prepared.created_at),
            effort=limits.effort,
            summary=asked.summary(self._settings.reasoning_summary),
        )
        kind = BackgroundRun if asked.background else ResponseRun
        run = kind(
            answerer,
            generation,
            ResponseRecord(draft, prepared.new, prepared.earlier.ids),
            ResponseStorage(self.archive, self.in_flight, self.conversations, asker.identity.team),
            recorder=asker.recording,
            clock=self._context.clock,
            longest_s=self._context.http.longest_answer_s,
            toolbox=prepared.toolbox,
            seal=prepared.seal if asked.encrypts_reasoning else None,
        )
        return run, {"x-reasoning-effort": limits.effort, **unenforced(generation)}

    async def prepared(
        self,
        asker: RequestContext,
        asked: ResponsesRequest,
        model: str,
        settings: ModelSettings,
        limits: ReasoningLimits,
    ) -> Preparation:
        """What `asked` is for a model; everything it refers to is read."""
        owner = asker.identity.team
        token, now = self._context.new_id(), self._context.clock()
        previous = asked.previous_response_id
        earlier = await self.archive.earlier(owner, previous) if previous else Earlier()
        sealed = needs_seal(asked)
        if asked.conversation is not None:
            found = await self.conversations.get(owner, asked.conversation.id, param="conversation")
            earlier = Earlier(found.items)
            sealed = sealed or any(item.get("encrypted_content") for item in found.items)
        seal = await self._seals.of(owner, model) if sealed else None
        if asked.conversation is not None and seal is not None:
            earlier = Earlier([opened(item, seal) for item in earlier.items])
        new = await self._new_items(asked, owner, earlier, token, seal)
        toolbox = Toolbox(asked.tools)
        generation = responses_generation(
            asked,
            earlier.items,
            new,
            toolbox,
            request_id=f"resp-{token}",
            limits=limits,
            today=datetime.fromtimestamp(now, UTC).date(),
            answer_share=settings.truncation_answer_share,
        )
        return Preparation(token, now, generation, new, earlier, toolbox, seal)

    async def compaction(
        self, asker: RequestContext, asked: CompactRequest, asking: Callable[[ChatGeneration], ChatGeneration]
    ) -> tuple[Preparation, ChatGeneration, Answerer]:
        """The request prepared, and its generation as `asking` changes it, with its answerer."""
        model, limits = self._model(asker, asked)
        prepared = await self.prepared(asker, asked, model.name, model.settings, limits)
        generation, answerer = model.chat(asking(prepared.generation))
        return prepared, generation, answerer

    async def counted(self, asker: RequestContext, asked: ResponsesRequest) -> Preparation:
        """What `asked` would be, for one who does not ask the model: nothing of the team's limits is taken."""
        served = self._context.answerers.find(asker, asked.model)
        asker.recording.identify(model=served.name)
        return await self.prepared(asker, asked, served.name, served.settings, self._limits(asked, served.settings))

    def _model(self, asker: RequestContext, asked: ResponsesRequest) -> tuple[AskedModel, ReasoningLimits]:
        effort = asked.reasoning.effort if asked.reasoning else None
        model = self._context.answerers.ask(asker, asked.model, effort=effort)
        limits = self._limits(asked, model.settings)
        asker.recording.identify(model=model.name, effort=limits.effort, stream=bool(asked.stream))
        return model, limits

    @staticmethod
    def _limits(asked: ResponsesRequest, settings: ModelSettings) -> ReasoningLimits:
        return reasoning_limits(
            settings.reasoning,
            effort=asked.reasoning.effort if asked.reasoning else None,
            max_reasoning_tokens=asked.max_reasoning_tokens,
            min_answer_tokens=asked.min_answer_tokens,
            effort_param="reasoning.effort",
        )

    async def _new_items(
        self, asked: ResponsesRequest, owner: str, earlier: Earlier, token: str, seal: Seal | None
    ) -> list[StoredItem]:
        """Return the request's own items, with the items that references stand for."""
        if isinstance(asked.input, str):
            return [user_item(asked.input, token)]
        known = {item["id"]: item for item in earlier.items}
        missing = [item.id for item in asked.input if isinstance(item, ItemReference) and item.id not in known]
        if missing:
            known |= await self.archive.referenced(owner, missing)
        items = []
        for number, item in enumerate(asked.input):
            if not isinstance(item, ItemReference):
                items.append(stored_item(item, token, number, opened=unsealed(item, seal, number)))
            elif (found := known.get(item.id)) is not None:
                items.append(found)
            else:
                raise ResponseNotFoundError(
                    f"Item with id '{item.id[:64]}' not found among stored responses. Send the item itself.",
                    param=f"input[{number}].id",
                )
        return items
