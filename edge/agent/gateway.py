"""The agent's heart: one state, one door, one loop that looks at the accounts again and again.

Every command goes through `submit`: judged by the core, journaled in one transaction, and only
then acted on. A journal that fails ends the agent; nothing is tried again on it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from edge import ports
from edge.agent.actuation import Actuation
from edge.agent.area import AreaWatch
from edge.agent.cloud_link import CloudLink
from edge.agent.facts import AccountFacts, SiteFacts
from edge.agent.line_watch import LineWatch
from edge.agent.metering import Metering
from edge.agent.pricing import Pricing
from edge.agent.snapshot import CloudView, SnapshotSource
from edge.agent.views import Sources, make_snapshot
from edge.bus.line import LineMaster
from edge.bus.records import LinePulse
from edge.core import commands as cmd
from edge.core.account import Register, State
from edge.core.charge import Rating
from edge.core.disconnect_control import ControlState
from edge.core.effects import DeliverNotice, Effect, SetOutputState
from edge.core.events import Event
from edge.core.policy import NoticeProof
from edge.core.step import Stepped, step
from edge.core.units import CLOCK_STEP_S_MAX, ClockReading, UnixSeconds, believed_seconds, stepped_seconds

NO_CLOUD = CloudView(connected=False, last_ack_at=None, backlog={})


class Gateway:
    """Reads, charges, decides, switches. Built by the bootstrap, run once."""

    def __init__(
        self,
        site: SiteFacts,
        state: State,
        event_log: ports.EventLog,
        journal: ports.Journal,
        clock: ports.Clock,
        pricing: Pricing,
        documents: Mapping[str, str],
        metering: Metering,
        on_events: Callable[[Sequence[Event]], None] | None = None,
        areas: AreaWatch | None = None,
    ) -> None:
        """`documents` are the tariffs to commission accounts with, by id@version."""
        self.site = site
        self.state = state
        self.snapshots = SnapshotSource()
        self._event_log = event_log
        self._journal = journal
        self._clock = clock
        self._pricing = pricing
        self._documents = dict(documents)
        self._metering = metering
        self._on_events = on_events
        self._areas, self._line_watch = areas, LineWatch()
        self._lines: Mapping[str, LineMaster] = {}
        self._actuation: Actuation | None = None
        self._cloud: CloudLink | None = None
        self._turn = asyncio.Lock()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._slot = -1
        self._looked_at: ClockReading | None = None
        self._version = 0
        self._silent: set[str] = set()
        self._cloud_connected = False
        self._cloud_heard: ClockReading | None = None
        self._server_at: UnixSeconds | None = None
        self._server_clock: ClockReading | None = None
        self._facts = {facts.account_id: facts for facts in site.accounts}

    def connect(self, lines: Mapping[str, LineMaster], actuation: Actuation, cloud: CloudLink | None) -> None:
        """Ties in what needs the gateway itself to exist first."""
        self._lines, self._actuation, self._cloud = lines, actuation, cloud

    async def run(self) -> None:
        """Looks at the accounts once a round until cancelled. Raises what made the agent unfit to go on."""
        clock = self._clock.read()
        await self._commission(clock)
        start = f"{self.site.software_version} {clock.boot_id}"
        await self.submit(cmd.NoteCondition(clock, "gateway_started", "", start))
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            await self.take_round()
            pause_s = max(0.0, self.site.round_interval_s - (loop.time() - started))
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._failure), pause_s)

    async def submit(self, command: cmd.Command) -> Stepped:
        """Judges a command, commits what it led to, and acts. Returns after the commit."""
        stepped = await self._judge(command)
        # A read-back and a receipt make nothing new true in the world: the round they belong to acts.
        if not isinstance(command, (cmd.ObserveOutputState, cmd.ConfirmNotice)):
            await self._act(stepped.effects)
        return stepped

    async def _judge(self, command: cmd.Command) -> Stepped:
        """Judges a command and commits what it led to. Acting is the caller's: effects are told in every round."""
        async with self._turn:
            now = self._clock.read().at
            try:
                stepped = step(self.state, command, self._pricing.rating(self.state, now, self._documents))
                await self._commit(stepped)
            except Exception as error:
                if not self._failure.done():
                    self._failure.set_exception(error)
                    self._failure.exception()  # it is raised here; `run` ends with it too if it waits
                raise
        return stepped

    async def _commit(self, stepped: Stepped) -> None:
        """Journals the events and takes over their state. A cancellation waits: what is on its way becomes true."""
        if not stepped.events:
            return
        commit = asyncio.ensure_future(self._event_log.append(stepped.events))
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            await asyncio.gather(commit, return_exceptions=True)
            if commit.cancelled() or commit.exception() is not None:
                raise
            self.state = stepped.state
            self._tell(stepped.events)
            raise
        self.state = stepped.state
        self._tell(stepped.events)

    async def take_round(self) -> None:
        """One look at all accounts: freezes, charges, notices, cuts, restores, and a new snapshot."""
        await self._open_accounts(self._clock.read())
        clock = self._clock.read()  # not before the readings that are judged by it
        samples = self._metering.samples(self.state.accounts, _power_limits(self.state))
        step_s = self._clock_step_s(clock)
        if step_s:
            self._slot = -1  # recorded at once: what follows is not measured by the wall from before the step
        slot = clock.at // self.site.slot_s
        record = bool(samples) and slot != self._slot
        heard = (self._cloud_silent_s(clock), self._server_now(clock))
        stepped = await self.submit(cmd.TakeRound(clock, samples, record, *heard))
        if record:
            self._slot = slot
        if step_s:
            await self.submit(cmd.NoteCondition(clock, "clock_set", "", f"{step_s:+d} s"))
        await self._note_conditions(clock)
        await self._watch_areas(clock)
        self._publish(clock, stepped)

    def rating(self) -> Rating:
        """How energy is priced now."""
        return self._pricing.rating(self.state, self._clock.read().at, self._documents)

    def read_clock(self) -> ClockReading:
        """The clock that commands are dated by."""
        return self._clock.read()

    def newest_sample(self, meter_id: str) -> cmd.Sample | None:
        """The newest sample of a meter, for a payment to be judged by."""
        return self._metering.latest(meter_id)

    async def output_observed(self, account_id: str, connected: bool) -> None:
        """A relay was read back."""
        account = self.state.accounts.get(account_id)
        if account is not None and account.output_connected is not connected:
            sample = self._metering.latest(account.meter_id)
            seen = (self._clock.read(), account_id, connected, sample, self._commanded_only(account_id))
            await self.submit(cmd.ObserveOutputState(*seen))

    async def cut_delayed(self, account_id: str, current_a: str) -> None:
        """A relay waits to open: more current flows than it may break."""
        await self.submit(cmd.NoteCondition(self._clock.read(), "cut_delayed_by_load", account_id, current_a))

    async def output_disobeyed(self, account_id: str, reason: str) -> None:
        """A relay did not do what it was told, for good."""
        await self.submit(cmd.NoteCondition(self._clock.read(), "relay_disobeys", account_id, reason))

    def cloud_heard(self, at: UnixSeconds) -> None:
        """The backend acknowledged something, and says what time it is."""
        self._cloud_heard = self._clock.read()
        self._server_at, self._server_clock = max(at, self._server_now(self._cloud_heard) or at), self._cloud_heard

    def _tell(self, events: Sequence[Event]) -> None:
        if self._cloud is not None:
            self._cloud.notify_appended()
        if self._on_events is not None:
            self._on_events(events)

    # --- parts of a round ---

    async def _commission(self, clock: ClockReading) -> None:
        """What the site book says becomes records, so that replay and the cloud know every price and term.

        The first round follows at once and acts for all of it.
        """
        for key, document in self._documents.items():
            if self.state.tariffs.get(key, document) != document:
                # A price in force changes by a new version, never under the same name.
                detail = f"{key}: the file differs from the stored document of that version"
                await self._judge(cmd.NoteCondition(clock, "tariff_refused", "", detail))
            await self._judge(cmd.AcceptTariff(clock, key, document))
        for facts in self.site.accounts:
            terms = (facts.policy, facts.protected, facts.contracted, 1 + len(facts.other_meters))
            await self._judge(cmd.ChangeTerms(clock, facts.account_id, *terms))

    async def _open_accounts(self, clock: ClockReading) -> None:
        if len(self.state.accounts) == len(self._facts):
            return
        for facts in self.site.accounts:
            sample = self._metering.latest(facts.meter_id)  # of all its meters
            if facts.account_id not in self.state.accounts and sample is not None and not sample.confirmed:
                await self.submit(_opening(facts, clock, Register(sample.at, sample.register_wh)))

    async def _act(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case SetOutputState(account_id):
                    if not self._as_wanted(account_id):
                        await self._want(account_id)
                case DeliverNotice(account_id, number):
                    await self._deliver(account_id, number)

    def _as_wanted(self, account_id: str) -> bool:
        """Whether nothing is to be done for a supply: it is read back as it must be, and the books say so."""
        account = self.state.accounts[account_id]
        connected = account.control_state is ControlState.CONNECTED
        known = account.output_connected is connected
        return known and (self._actuation is None or self._actuation.settled(account_id, connected))

    async def _want(self, account_id: str) -> None:
        """What the newest state wants: since the effects were told a payment may have come in."""
        if self._actuation is not None:
            control_state = self.state.accounts[account_id].control_state
            remote = control_state is ControlState.DISCONNECTED
            await self._actuation.want(account_id, control_state is ControlState.CONNECTED, remote)

    async def _deliver(self, account_id: str, number: int) -> None:
        """On site a notice is handed over by the display; the cloud gets it with the ledger."""
        policy = self.state.accounts[account_id].policy
        if self.site.local_display and policy.notice_proof is NoticeProof.LOCAL_DISPLAY:
            proof = NoticeProof.LOCAL_DISPLAY.value
            await self.submit(cmd.ConfirmNotice(self._clock.read(), account_id, number, proof))

    async def _note_conditions(self, clock: ClockReading) -> None:
        """Meters that fell silent or came back, lines that do not keep up, the link to the cloud: one record per
        change."""
        pulses = {line_id: line.pulse() for line_id, line in self._lines.items()}
        for note in self._line_watch.look(clock, pulses):
            await self.submit(note)
        silent_now = self._silent_meters(pulses)
        if silent_now.keys() != self._silent:
            for facts in self.site.accounts:
                error = silent_now.get(facts.account_id)
                if (error is not None) is not (facts.account_id in self._silent):
                    self._silent ^= {facts.account_id}
                    condition = "meter_answers" if error is None else "meter_silent"
                    await self.submit(cmd.NoteCondition(clock, condition, facts.account_id, error or ""))
        connected = self._cloud is not None and self._cloud.view().connected
        if connected is not self._cloud_connected:
            self._cloud_connected = connected
            await self.submit(cmd.NoteCondition(clock, "cloud_link_up" if connected else "cloud_link_down"))

    def _silent_meters(self, pulses: Mapping[str, LinePulse]) -> dict[str, str]:
        """The accounts of which a meter is silent, and what its last error was."""
        silent_at = {line_id: pulse.silent for line_id, pulse in pulses.items()}
        if not any(silent_at.values()):
            return {}
        found = {}
        for facts in self.site.accounts:
            errors = [silent_at[facts.line_id].get(facts.device_id)]
            errors += [silent_at[place.line_id].get(place.device_id) for place in facts.other_meters]
            error = next((one for one in errors if one is not None), None)
            if error is not None:
                found[facts.account_id] = error
        return found

    async def _watch_areas(self, clock: ClockReading) -> None:
        if self._areas is not None:
            for note in self._areas.look(clock, lambda: self.rating().zone, self._metering, self.state):
                await self.submit(note)

    def _commanded_only(self, account_id: str) -> bool:
        facts = self._facts.get(account_id)
        return facts is not None and facts.relay_kind == "gpio_commanded"

    def _switching(self, account_id: str) -> bool:
        return self._actuation is not None and self._actuation.switching(account_id)

    def _clock_step_s(self, clock: ClockReading) -> int:
        """How far the wall was set since the last round, 0 while it goes on as the boot does (SECURITY.md R10)."""
        last, self._looked_at = self._looked_at, clock
        step_s = 0 if last is None else stepped_seconds(last, clock)
        return step_s if abs(step_s) > CLOCK_STEP_S_MAX else 0

    def _server_now(self, clock: ClockReading) -> UnixSeconds | None:
        """The backend's time as this boot has carried it on: that much has passed. None before any was heard."""
        if self._server_at is None or self._server_clock is None:
            return None
        return UnixSeconds(self._server_at + (clock.elapsed_ms - self._server_clock.elapsed_ms) // 1000)

    def _cloud_silent_s(self, clock: ClockReading) -> int | None:
        if self._cloud is None:
            return None
        if self._cloud_heard is None:
            self._cloud_heard = clock
        return believed_seconds(self._cloud_heard, clock)

    def _publish(self, clock: ClockReading, stepped: Stepped) -> None:
        self._version += 1
        sources = Sources(
            site=self.site,
            metering=self._metering,
            lines={line_id: line.view() for line_id, line in self._lines.items()},
            cloud=self._cloud.view() if self._cloud is not None else NO_CLOUD,
            ledger_head=self._journal.heads()["led"],
            cloud_silent_s=self._cloud_silent_s(clock),
            switching=self._switching,
        )
        rating = self.rating()
        self.snapshots.publish(make_snapshot(self._version, stepped.state, stepped.figures, rating, clock, sources))


def _power_limits(state: State) -> dict[str, int]:
    """The load limits in force, by account."""
    policies = {account_id: account.policy for account_id, account in state.accounts.items()}
    return {key: policy.load_limit.power_w for key, policy in policies.items() if policy.load_limit is not None}


def _opening(facts: AccountFacts, clock: ClockReading, register: Register) -> cmd.OpenAccount:
    return cmd.OpenAccount(
        received=clock,
        account_id=facts.account_id,
        meter_id=facts.meter_id,
        policy=facts.policy,
        tariff=facts.tariff,
        register=register,
        opening_nano=facts.opening_nano,
        protected=facts.protected,
        contracted=facts.contracted,
        meters=1 + len(facts.other_meters),
    )
