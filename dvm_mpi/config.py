"""Every limit and tuning constant of the machine, by name; and the settings of one run.

A queue, table, arena or loop that can grow has its limit here. Reaching one is back-pressure or
a `LimitError` that names it, never a crash. Sizes are bytes unless the name says otherwise.
"""

from __future__ import annotations

from typing import Final

from dvm_mpi.layout import PAGE_BYTES

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# --- placement of pages -----------------------------------------------------------------------
#: Consecutive pages that share a home; blocks go round the homes in turn. They are larger where a
#: program fills so much that each home has this many blocks all the same, up to a page for each
#: home and a largest size.
HOME_BLOCK_PAGES: Final = 16
BLOCKS_PER_HOME: Final = 16
HOME_BLOCK_PAGES_MAX: Final = 256
#: A block may move to the home beside a worker that stored at least so much of what was stored to
#: it, in per cent, in each of so many epochs that stored there, one after the other ...
MIGRATION_SHARE_PERCENT: Final = 75
MIGRATION_EPOCHS: Final = 3
#: ... if what it stores more than all others, in so many such epochs, is more than the block.
MIGRATION_HORIZON: Final = 16
#: Smaller write sets are not looked at: they travel in their records wherever their home is.
MIGRATION_BYTES_MIN: Final = 4 * KIB
#: Blocks that move at a time; blocks that are watched, and blocks that have moved, at most.
MIGRATION_BLOCKS_AT_ONCE: Final = 256
MIGRATION_BLOCKS_MAX: Final = 65_536
#: Of the frames of a home that are free when the program is loaded, those that pages of others may
#: take, in per cent.
MIGRATION_ROOM_PERCENT: Final = 25

# --- runners ----------------------------------------------------------------------------------
#: An automatic stack, unless `--stack` asks for more.
STACK_BYTES_DEFAULT: Final = 8 * KIB
#: Instructions between two looks at the messages: about a millisecond.
SLICE_FUEL: Final = 400_000
#: A rank's slices last so long, whatever executes them: it measures them, and gives each as many
#: instructions as that takes, SLICE_FUEL at least and SLICE_FUEL_MAX at most. In one process, where
#: nobody waits for others, slices have LONG_SLICE_FUEL where code is translated.
SLICE_US: Final = 1_000
SLICE_FUEL_MAX: Final = 64 * SLICE_FUEL
LONG_SLICE_FUEL: Final = 160 * SLICE_FUEL
#: How long its slices are meant to last where nothing can happen between two of them, and how many
#: instructions they have at most, of which no more than LONG_SLICE_FUEL are interpreted. A turn
#: takes 0.35 ms where code in between has filled the caches.
LONE_SLICE_US: Final = 20_000
LONE_SLICE_FUEL_MAX: Final = 64 * LONG_SLICE_FUEL
#: Slices of one turn, as long as nobody says anything: a look whether somebody has takes 10 us, all
#: else of a turn 100.
SLICES_PER_TURN: Final = 4
#: Instructions that the runners of one batch have together, if they are short enough, and that a
#: worker executes before it reports ends: a message costs the coordinator as much time as a slice.
BATCH_FUEL: Final = 4 * SLICE_FUEL
#: Instructions in whose time a short attempt is begun, ended and reported, whatever it executes.
RUNNER_FUEL: Final = 384
#: A sample of where runners are is taken after so many instructions of the interpreter, a fraction
#: of a millisecond; and where it executes what translated code leaves to it, after up to so many.
SAMPLE_FUEL: Final = 65_536
SAMPLE_FUEL_MAX: Final = 1 << 25
#: A place is so many bytes of text, twenty instructions or so; it is hot after so many samples,
#: some 20 ms. Others in it are found after twice as many, four times as many, and so on.
PLACE_BYTES: Final = 512
HOT_SAMPLES: Final = 128
#: Units of translated code that one program has, at most.
UNITS_MAX: Final = 1_024
#: Programs whose translated code is kept: those that were used last.
UNIT_FOLDERS_MAX: Final = 256
#: How often a rank looks for translated code that it waits for, and for what others have had made.
UNITS_WANTED_LOOK_S: Final = 0.01
UNITS_LOOK_S: Final = 0.5
#: So long ranks wait for code that the first host sends, before their host translates for itself.
UNITS_SENT_S: Final = 1.0
#: A unit during whose translation so many translators have died is left to the interpreter.
TRANSLATION_TRIES_MAX: Final = 3
#: A translator that nobody has asked for so long ends; it looks for requests so often.
TRANSLATOR_IDLE_S: Final = 30.0
TRANSLATOR_LOOK_S: Final = 0.005
#: Addresses that a rank leases at a time.
ID_LEASE_COUNT: Final = 4_096
STACK_LEASE_COUNT: Final = 1_024
MALLOC_LEASE_BYTES: Final = 64 * MIB
#: Leases that the automatic stacks suffice for at least: those of large stacks have fewer.
STACK_LEASES_MIN: Final = 256
#: A worker that asks again for ids or stacks gets so many times as many as before, up to so many
#: times the above: whoever creates many runners waits for addresses a few times only.
LEASE_GROWTH: Final = 4
LEASE_BLOCKS_MAX: Final = 64
#: Runners that one attempt creates, counted where it asks for ids: they wait in its rank's memory,
#: and are sent together, when it commits.
CHILDREN_MAX: Final = 1 << 20

# --- snapshots --------------------------------------------------------------------------------
#: Declared ranges up to this size are fetched before a runner starts; larger ones on first touch.
EAGER_BYTES_MAX: Final = 1 * MIB
#: Ranges fetched for one batch of runners together before it starts.
EAGER_BATCH_BYTES_MAX: Final = 16 * MIB
#: Pages fetched together at the second touch of a scan (the first fetches one), so many times as
#: many each time after that, and the most: each fetch waits for a home, which may execute a slice,
#: and in that time five hundred pages are copied. Fewer where all content waits in one message.
READ_AHEAD_PAGES: Final = 16
READ_AHEAD_GROWTH: Final = 16
READ_AHEAD_PAGES_MAX: Final = 4_096
CARRIED_AHEAD_PAGES_MAX: Final = 1_024
#: Pages of ranges that were not fetched early and come along with the first one that is touched.
COMPANION_PAGES_MAX: Final = 4
#: A home that has applied an epoch tells where its pages lie, if they are no more; and of so many
#: pages rank 0 knows it, and tells it to who declares them, so that these need not ask.
LOCATED_PAGES_TOLD: Final = 8
LOCATED_PAGES_MAX: Final = 64
#: Pages fetched together at most where a scan comes to such as the rank has held before; and pages
#: of one question to a home, so that it answers others in between.
REFETCH_PAGES_MAX: Final = 16_384
LOOKUP_PAGES_MAX: Final = 4_096
#: Pages kept in a rank's view between runners.
CACHE_BYTES_DEFAULT: Final = 256 * MIB

# --- windows ----------------------------------------------------------------------------------
#: Bytes that one call of MPI moves: not every library takes counts beyond 31 bits.
RMA_BYTES_MAX: Final = 1 * GIB
#: Reads that are begun in one go: fewer than what takes a millisecond.
RMA_READS_AT_ONCE: Final = 128
#: The probe of the windows: how long a rank computes, how many reads it must answer meanwhile, and
#: how often this is tried before it counts as not answering. Mean time of a read: 2.5 ms at most.
#: An attempt counts if its partner looked so often in vain; with those that do not, as on a full
#: machine, there are so many in all.
PROBE_BUSY_S: Final = 0.02
PROBE_READS: Final = 8
PROBE_ATTEMPTS: Final = 3
PROBE_LOOKS_MIN: Final = 20
PROBE_ATTEMPTS_MAX: Final = 60

# --- commits ----------------------------------------------------------------------------------
#: An epoch closes at this age or size, or when nobody is busy.
EPOCH_US_MAX: Final = 2_000
EPOCH_RECORDS_MAX: Final = 4_096
#: Write sets up to this size travel in the commit record; larger ones are staged at the homes.
INLINE_BYTES_MAX: Final = 64 * KIB
#: Smaller ones are staged as well if so many bytes less travel between ranks than by way of rank 0:
#: a message of its own takes as long as those do at some 1 Gbit/s.
DETOUR_BYTES_MIN: Final = 32 * KIB
#: Each worker's slice of each home's staging arena, and all slices of one arena together.
ARENA_SLICE_BYTES: Final = 4 * MIB
ARENA_BYTES_MAX: Final = 256 * MIB
#: Disjoint ranges of stored bytes that the coordinator remembers; more are joined where old.
CONFLICT_RANGES_KEPT: Final = 1 << 20
#: Ranges that it can remember at most, since the oldest snapshot in use.
CONFLICT_RANGES_MAX: Final = 1 << 24
#: Losses after which a runner's ranges are reserved, and after which it runs alone.
LOSSES_BEFORE_RESERVING: Final = 3
LOSSES_BEFORE_RUNNING_ALONE: Final = 6
#: Places where attempts lose that a run counts apart: those with the most losses.
CONTENTION_SITES_KEPT: Final = 100
#: How many of these a message names, and when there is one: if so many attempts have lost, and so
#: large a share of all.
CONTENTION_SITES_SHOWN: Final = 5
CONTENTION_LOSSES_TOLD: Final = 100
CONTENTION_SHARE_TOLD: Final = 0.1

# --- figures for the report ---------------------------------------------------------------------
#: A rank tells what it did in spans of this length at least, and sends them so often; both longer
#: by the number of ranks over that of the third, so that rank 0 hears as much from many.
SPAN_US_MIN: Final = 20_000
METER_US: Final = 1_000_000
METERED_APART: Final = 256
#: Buckets of time that spans are laid over: the width doubles when there are more. Groups of ranks
#: that are kept apart, and groups times buckets.
BUCKETS_MAX: Final = 256
METER_GROUPS_MAX: Final = 128
METER_CELLS_MAX: Final = 16_384
#: Pages whose counts are kept apart, at each rank and for the whole run; mentions of pages that are
#: counted together, and pages of different long arrays; and how many pages a rank tells at a time,
#: and the report shows.
HOT_PAGES_KEPT: Final = 4_096
HOT_PAGES_PENDING: Final = 16_384
HOT_SCANS_PENDING: Final = 32_768
HOT_PAGES_TOLD: Final = 128
#: Stored ranges of one message in which pages that others store to as well are looked for.
SHARED_RANGES_MAX: Final = 128
#: Entries whose runners' lengths are counted apart.
LENGTH_ENTRIES_KEPT: Final = 64
#: Seconds between two versions of a report while the run goes on, and how many times as long as
#: the writing took they are at least.
REPORT_INTERVAL_S: Final = 2.0
REPORT_SPACING: Final = 50

# --- messages between ranks ---------------------------------------------------------------------
#: Buffers taken in one turn, so that a flood of them does not keep a rank from its own work.
RECEIVES_AT_ONCE: Final = 64
#: How often, one after the other, a rank's parts take what they have said to each other before it
#: looks for other ranks' messages again: a page of its own home, from the question to the answer.
OWN_ROUNDS: Final = 4
#: Buffers that others have not taken yet before a rank stops to execute runners.
SENDS_PENDING_MAX: Final = 1_024
#: Tables within messages are packed by columns from so many rows on, since below that it takes
#: longer than it saves; and up to so many.
PACKED_ROWS_MIN: Final = 32
PACKED_ROWS_MAX: Final = 1 << 21
#: Memory that a rank's process keeps when it is given back, and the largest piece of it: arrays of
#: some hundred kilobytes come and go with each message, and new memory takes longer than they do.
HEAP_KEPT_BYTES: Final = 64 * MIB
HEAP_PIECE_BYTES_MAX: Final = 32 * MIB
#: Sleeps of a rank with nothing to do: the first, and what they grow to.
NAP_S_MIN: Final = 20e-6
NAP_S_MAX: Final = 1e-3
#: How late sleeps within MPI's calls may end where a node has more ranks than processors.
LATE_SLEEP_NS: Final = 300_000
#: `--cpu-share`: the smallest one, the period in which a rank gets its allowance of processor time,
#: and how many periods' allowances it may owe for what it has served.
CPU_SHARE_MIN: Final = 0.05
CPU_PERIOD_US: Final = 100_000
CPU_DEBT_PERIODS_MAX: Final = 10
#: Up to so many ranks talk to rank 0 themselves; of more, leaders gather what they say. One leader
#: for so many ranks at least, unless hosts have more: then one for each host.
RANKS_WITHOUT_LEADERS: Final = 32
LEADER_RANKS: Final = 16
#: Records of one message that was joined.
JOINED_RECORDS_MAX: Final = 4_096
#: Up to this many ranks, rank 0 has a worker as well. With so many other workers it gives its own
#: nothing to do while to coordinate takes more than a share of its time, and something again when
#: that takes less than another; both measured over so long.
RANKS_WITH_WORKING_COORDINATOR: Final = 8
DEDICATED_OTHERS_MIN: Final = 3
DEDICATED_SHARE: Final = 0.5
SHARED_SHARE: Final = 0.2
DEDICATED_US: Final = 200_000
#: Ranks that a message about several of them names.
RANKS_SHOWN_MAX: Final = 8
#: Ranks that rank 0 asks at a time what they do, in turn, for the file that outlives the run.
RANKS_ASKED_AT_ONCE: Final = 64
#: Rows and columns of the account of what ranks move: of more ranks those of a host are one.
TRAFFIC_GROUPS_MAX: Final = 64
#: After a signal, ranks have so long to come to the end together.
GRACE_S: Final = 5.0
#: Without progress for so long, what is waited for is told; each time after twice as long.
STALL_S: Final = 10.0
#: A rank that is asked then what it does, and says nothing for so long, is lost, and the run ends;
#: where ranks read and write files, for as long as a file system may take to come back, and where a
#: rank loads its engine.
LOST_S: Final = 20.0
LOST_AT_FILES_S: Final = 300.0
#: Where all ranks wait for each other before the program and its inputs are loaded, and after the
#: run is over, nobody can be asked: a run ends if for so long no rank has come. A host may have to
#: compile everything first, and at the end a rank may still be in a call for a file.
LOST_AT_START_S: Final = 600.0
LOST_AT_END_S: Final = 60.0

# --- files and terminals ----------------------------------------------------------------------
#: Array files are read and written in pieces of this size; a rank serves others between two.
FILE_CHUNK_BYTES: Final = 1 * MIB
#: Decompressed chunks of an HDF5 input that are kept while it is read.
CHUNK_CACHE_BYTES: Final = 32 * MIB
#: A record of a run is kept in chunks of this size, and what was gathered for it is written when
#: there is so much, or so many seconds after the last time.
RECORD_CHUNK_BYTES: Final = 256 * KIB
RECORD_BUFFER_BYTES: Final = 1 * MIB
RECORD_FLUSH_S: Final = 1.0
#: Pages of the end that each home puts into a record at most; of more, the rest is left out.
RECORD_PAGES_MAX: Final = 16_384
#: One source file, and how many, that a record keeps for the sake of traces.
RECORD_SOURCE_BYTES_MAX: Final = 1 * MIB
RECORD_SOURCES_MAX: Final = 256
#: Steps of a trace that are shown unless `--steps` says otherwise: the last ones.
TRACE_STEPS_SHOWN: Final = 1_000
#: Instructions of traced attempts that a run executes again between two turns.
TRACE_FUEL: Final = 2_000
#: Rows that all ranks together may note for `--trace` in a second: rank 0 writes each in some 5 µs.
TRACE_ROWS_PER_S: Final = 20_000
#: How often a rank sends its rows, and how many it keeps until then at most. Of more ranks than
#: `TRACE_RANKS_OFTEN` each sends as many times more rarely.
TRACE_FLUSH_S: Final = 0.5
TRACE_ROWS_MAX: Final = 16_384
TRACE_ROWS_MIN: Final = 64
TRACE_RANKS_OFTEN: Final = 256
#: Rows that rank 0 keeps until they are written, and that it writes in one turn.
TRACE_QUEUE_ROWS_MAX: Final = 1 << 18
TRACE_ROWS_AT_ONCE: Final = 64
#: Single runners that a rank notes in a second, unless `--trace-sample` says how many to leave out.
TRACE_RUNNERS_PER_S: Final = 500
#: Seconds between two values of a gauge, and between two looks at rank 0's clock.
TRACE_GAUGE_S: Final = 0.05
TRACE_CLOCK_S: Final = 1.0
#: Looks at rank 0's clock in a row at the start, with `--trace` and without it; how fast two clocks
#: may part.
TRACE_CLOCK_EXCHANGES: Final = 8
CLOCK_EXCHANGES: Final = 3
TRACE_CLOCK_DRIFT: Final = 50e-6
#: Slices of one batch are one span if there is no longer gap between them; microseconds.
TRACE_GAP_US: Final = 200
#: Ends of arrows that wait for the other end, and answers of homes told of one wait for pages.
TRACE_PAIRS_MAX: Final = 8_192
TRACE_HOMES_SHOWN: Final = 8
#: Standard input is kept whole, since every attempt reads it from its beginning.
STDIN_BYTES_MAX: Final = 1 * GIB
#: Datasets that a message about a wrong name lists.
LISTED_DATASETS_MAX: Final = 20
#: Arrays that a message about sizes lists, the largest first.
LISTED_ARRAYS_MAX: Final = 5
#: Times before the live display of progress is first drawn, between two drawings, and before a
#: silent wait is explained.
PROGRESS_FIRST_S: Final = 0.5
PROGRESS_INTERVAL_S: Final = 0.1
SILENT_WAIT_S: Final = 2.0
#: Where progress is told in lines, as in the log of a job: when the first one comes, and the time
#: to the next.
PROGRESS_LINE_FIRST_S: Final = 10.0
PROGRESS_LINE_INTERVAL_S: Final = 60.0
#: Source lines of a profile that are shown; the report has all of them.
PROFILE_LINES_SHOWN: Final = 20

assert ARENA_SLICE_BYTES % PAGE_BYTES == 0
assert INLINE_BYTES_MAX < ARENA_SLICE_BYTES
assert FILE_CHUNK_BYTES % PAGE_BYTES == 0

# --- the coordinator's tables -------------------------------------------------------------------
#: Runners and templates alive at once: rank 0 holds some 300 bytes for each.
RUNNERS_MAX: Final = 1 << 22
#: If more than so many wait, those that came last go first: a tree of runners is gone through
#: branch after branch then, so that rank 0 holds its depth, and not its breadth.
QUEUE_ROWS_IN_ORDER: Final = 1 << 18
#: Events remembered to tell a runner's story when the life cycle is violated, and the runners
#: that they happened to together: one event may happen to millions.
STORY_EVENTS: Final = 4_096
STORY_ROWS: Final = 1 << 18
#: Runners of one dispatched batch, and batches that a worker holds at a time.
BATCH_RUNNERS_MAX: Final = 4_096
BATCHES_PER_WORKER: Final = 2
#: Instructions that runners take together, at least, to be divided among workers: less takes about
#: as long as the messages there and back, and the epoch, that each share costs rank 0. Fewer than
#: four such shares wait for as few that are under way, so that they go together, and so does the
#: epoch; until for so long none of those has ended.
SHARE_FUEL_MIN: Final = SLICE_FUEL
GATHER_US: Final = 10_000
#: So few attempts under way, each the only one of its worker, are awaited by the epoch if they are
#: expected to end within this time, about what an epoch takes with what it wakes, and within this
#: part of what such an attempt takes. No epoch waits for them longer than the last.
ENDS_AWAITED_MAX: Final = 4
ENDS_SOON_US: Final = 4_000
ENDS_PART: Final = 4
ENDS_AWAITED_US_MAX: Final = 8_000
#: Instructions in whose time rank 0 has done a few times what a worker's batch costs it: batches of
#: many workers are as much longer than BATCH_FUEL as it needs to come round. So many of them, at
#: least, are there for each worker: as long as there are fewer, batches get shorter, and in the end
#: a share is of that part of such a round at least.
WORKER_FUEL: Final = 16_000
BATCHES_LEFT: Final = 2
SHARES_PER_ROUND: Final = 4
#: Of more workers than this each gets a runner more at least, at a time, for every so many of them.
WORKERS_PER_LEAST_RUNNER: Final = 16
#: Runners at the head of the queue among which those near to a worker are looked for.
FRONT_RUNNERS: Final = 65_536
#: How long a runner waits for the worker that it is near to, while others have nothing to do; and
#: longer by the time in which its memory moves, at so many bytes in a microsecond: some 1 Gbit/s.
NEAR_WAIT_US: Final = 5_000
MOVED_BYTES_PER_US: Final = 100
#: The same where all ranks are on one host, and copy from each other's memory.
MOVED_BYTES_PER_US_ON_HOST: Final = 2_000
#: The time beside that in which memory moves: a home that executes answers a slice late.
MOVE_US: Final = 1_000
#: Shorter declared ranges have no part in where a runner goes: what they would save in transfers
#: costs the coordinator more.
NEAR_BYTES_MIN: Final = 1 * KIB
#: A worker that lacks more than this part of what a runner declares, and has less than this part
#: more than the next one, is not worth waiting for.
NEAR_PART: Final = 4
#: Pages of which it is remembered who has them, a power of two; workers that are remembered of
#: each; pages that stand for one declared range, at most.
HOLDERS_SLOTS: Final = 65_536
HOLDERS_KEPT: Final = 4
HOLDERS_SPOTS_MAX: Final = 16
#: Runners of one round under --deterministic. Results depend on it.
ROUND_RUNNERS: Final = 4_096
#: Ids and stacks, and bytes for `malloc`, of one block that a place of a round is dealt. An attempt
#: that asks again gets so many times as many blocks as before, up to so many.
PLACE_LEASE_COUNT: Final = 64
PLACE_MALLOC_BYTES: Final = 1 * MIB
PLACE_LEASE_GROWTH: Final = 16
PLACE_LEASE_BLOCKS_MAX: Final = 256
#: Epochs closed but not yet applied everywhere before a new one waits for its age.
EPOCHS_IN_FLIGHT: Final = 4

# --- programs -----------------------------------------------------------------------------------
#: One source file; and the initialised bytes (text and data) of one image, in any format.
SOURCE_BYTES_MAX: Final = 16 * MIB
IMAGE_BYTES_MAX: Final = 256 * MIB
#: Names, arrays and ranges of an image file, as JSON.
IMAGE_HEADER_BYTES_MAX: Final = 64 * MIB
#: Files, and macros and repetitions, that may be open inside one another.
INCLUDE_DEPTH_MAX: Final = 16
MACRO_DEPTH_MAX: Final = 100
#: Lines after expansion; and those of them that repetitions and macros have made, of which 10,000
#: take a second. After an error, how many such lines are still looked at for others.
EXPANDED_LINES_MAX: Final = 2_000_000
UNROLLED_LINES_MAX: Final = 300_000
UNROLLED_AFTER_ERROR_MAX: Final = 10_000
#: Operators and operands of one expression.
EXPRESSION_TERMS_MAX: Final = 200
#: Bits of a number while it is being computed.
EXPRESSION_BITS_MAX: Final = 128
#: Sizes of one `.array`.
ARRAY_RANK_MAX: Final = 8
#: Errors that are printed; more are counted.
ERRORS_SHOWN_MAX: Final = 50
#: Largest automatic stack: a slot must be small beside the area that holds them all.
STACK_BYTES_MAX: Final = GIB
#: Watchers that the list of those left over shows.
WATCHERS_SHOWN_MAX: Final = 20

# --- instructions that do much ------------------------------------------------------------------
#: Bytes that `strcmp` compares before it counts as one instruction more.
STRCMP_STEP_BYTES: Final = 4_096
#: Ranges of one descriptor of `newr`.
DESCRIPTOR_RANGES_MAX: Final = 65_536
#: One image file, with its line table.
IMAGE_FILE_BYTES_MAX: Final = 1 * GIB

# --- ranks of one node --------------------------------------------------------------------------
#: What MPICH itself takes of /dev/shm for each rank of a node, before any window; and what it
#: takes with MPIR_CVAR_NOLOCAL=1. Measured with 5.0.2 on tmpfs mounts of 64 MB to 1 GB, 1 to 16
#: ranks: 5.39 MB and 1.06 MB, the same after messages of all sizes.
MPICH_SHARED_BYTES: Final = 5_376 * KIB
MPICH_NOLOCAL_SHARED_BYTES: Final = 1_280 * KIB
#: The same of Open MPI, and the free space that it asks for before it makes a rank's segment, which
#: is sparse. Measured with 5.0.11 at 8 ranks: 0.41 MB each after messages from all to all.
OPEN_MPI_SHARED_BYTES: Final = 1 * MIB
OPEN_MPI_SEGMENT_BYTES: Final = 16 * MIB
#: The least that `--memory` is by default: where there is not even that much, a run is refused.
MEMORY_BYTES_MIN: Final = 16 * MIB
#: Files of dead runs that one message names.
SEGMENTS_SHOWN_MAX: Final = 20
#: Seconds between two versions of the post-mortem file.
POSTMORTEM_INTERVAL_S: Final = 2.0
#: Ctrl-C reaches a rank directly and through its launcher: what comes within this many seconds
#: of the first signal is its echo; a later one ends the process at once.
SIGNAL_ECHO_S: Final = 0.5
#: What a rank that leaves in silence gives the one that tells why: launchers end all ranks at the
#: first that leaves (Open MPI's before anything else is printed).
SPEAKER_S: Final = 3.0
#: What a rank that ends all others gives its launcher to take over what it has printed.
DRAIN_S: Final = 2.0

# --- what `doctor` tries, and from where on it calls a thing slow ---------------------------------
#: Any step of it may take so long, unless `--wait` says otherwise.
DOCTOR_WAIT_S: Final = 60.0
#: Threads of all ranks of a node for each of its cores.
THREADS_PER_CPU_MAX: Final = 4
#: Between two ranks: round trips that are timed, and the largest message.
ROUND_TRIPS: Final = 200
TRIAL_MESSAGE_BYTES: Final = 4 * MIB
#: The time of a small message, and bytes in a second, within a host and between hosts; and how many
#: times worse than the median a pair may be.
LATENCY_US_WITHIN_MAX: Final = 50
LATENCY_US_BETWEEN_MAX: Final = 100
RATE_MB_S_WITHIN_MIN: Final = 500
RATE_MB_S_BETWEEN_MIN: Final = 200
PAIR_FACTOR_MAX: Final = 4
#: All ranks together write so much into one file, each so much at most; and MB in a second.
TRIAL_FILE_BYTES: Final = 256 * MIB
TRIAL_PART_BYTES_MAX: Final = 16 * MIB
RATE_MB_S_WRITING_MIN: Final = 50
#: Seconds by which clocks of hosts may differ.
CLOCKS_S_MAX: Final = 1.0
#: Findings of one kind that a report lists.
FINDINGS_SHOWN_MAX: Final = 5

# --- predictions --------------------------------------------------------------------------------
#: How far off a run that was left out of the fit may be for predictions to be claims: a share.
MODEL_ERROR_MAX: Final = 0.15
#: What others may have of the processors while such a run is measured, as a share; and how many
#: times as many runs as were asked for are made until there are enough like that.
MODEL_OTHERS_MAX: Final = 0.05
MODEL_RUNS_MAX: Final = 3

# --- sizes that `estimate` tells ----------------------------------------------------------------
#: What `--memory` should be, beside the pages that are sure to be filled: a share of them, for
#: pages stored while a snapshot needs the old ones, and room for status pages and the like.
MEMORY_FACTOR: Final = 1.2
MEMORY_SPARE_BYTES: Final = 16 * MIB
#: A rank's own memory before it runs anything: Python, compiled code, MPI. Measured as the peak of
#: `mpiexec -n 16 python -m dvm_mpi jobs/hello/hello.dasm` (67 MB, of which 26 MB are files that
#: the ranks of a node share).
RANK_BYTES: Final = 64 * MIB
#: Bytes of a home's tables for each page that it holds: 40 for the frame, and a map that is at
#: least a quarter full.
TABLE_BYTES_PER_PAGE: Final = 104
#: What one runner stores at most, unless `--stores` says otherwise; and how many times that a home
#: holds for write sets that are staged, measured with runners that store 16 MiB each, 4 ranks.
STORES_BYTES_DEFAULT: Final = 16 * MIB
STAGED_WRITE_SETS: Final = 3
