"""Nothing is lost: kills a run again and again, and compares its end with that of a run that nobody disturbed.

A run makes an image store, trains a teacher, computes its embeddings and trains a student. In each of these phases, and while checkpoints are written,
`kill -9` falls at moments that are spread uniformly over the phase, in training from the first checkpoint on: a run is killed and started, again and again, each time further on,
and then comes to its end. So it does where the disk is full from some write on (making a file safe, a row of a log and TensorBoard's entries fail as they do there), once in a twentieth of the run's writes,
and where two processes want the same run and the one that trains is killed and started again. The script stops with an error where one of these does not hold:

- a start goes on from the last checkpoint, and repeats no more steps than lie between two of them; after a kill in training that is never the beginning
- a start makes no chunk of an array again that was safely there (an image whose digest was lost is decoded again: one chunk of images)
- after a kill every file that has its name can be read
- a full disk ends a run with a message that says so and what to do
- of two processes one trains and the other waits, and says so; where the one is killed, the other goes on from its last checkpoint
- in the end weights and arrays are those of the undisturbed run, bit for bit

It prints a table: the kills that fell inside the phase, and those that missed it and are not counted; how many runs they were; how many starts had
something to go on from; and how much was made again at most.
"""
import argparse, errno, json, multiprocessing, os, random, shutil, signal, statistics, sys, tempfile, threading, time
from pathlib import Path
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/'tests'))
from conftest import little, write_table
from test_interrupted import checkpoints, same

TRAINING = ['teacher', 'student']
PHASES = ['images', 'teacher', 'embeddings', 'student', 'checkpoint', 'full disk', 'two processes']

def settings(full, photos):
    "A preset whose networks have some 30 rows in their logs and 10 checkpoints."
    def schedule(steps): return dict(steps=steps, batch=128 if full else 16, evaluate_every=steps // 25, checkpoint_every=steps // 10)
    size = dict(image_size=64, view_size=64, dim=128) if full else dict(image_size=16, view_size=16, dim=16)
    return little(**size, epoch_images=12_800, kept_embeddings=photos, teacher=schedule(750 if full else 100), student=schedule(750 if full else 100))

def job(table, preset, store):
    "From photos to a student, by one teacher."
    from mtss.runs import load_for, train_student, train_teachers
    data = load_for(table, preset, store=store, types=['category'])
    train_student(data, train_teachers(data, 1, preset, store=store), preset=preset, store=store)

def words(store, process):
    "Where a process says what it does."
    return store.with_name(f'{store.name} {process}.txt')

def work(table, preset, store, phase, at, after, inside, again):
    """What a process does. It is killed some seconds `after` its phase has come to `at`; `inside` is 1 within the phase, `again` counts chunks.
    In the phase of the full disk it is full from its `at`-th write on.
    """
    said = os.open(words(store, os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2): os.dup2(said, stream)
    from tensorboard.summary.writer.record_writer import RecordWriter
    from mtss import datasets, runs, training
    from mtss.store import ChunkedArray
    moments, timers = [], []
    def moment(name, value):
        moments.append((name, value, time.monotonic()))
        if name != phase or value < at: return
        if name == 'full disk':
            inside.value = 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if timers: return
        timers.append(threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)))
        timers[0].start()
    def wrap(owner, function, name_of, before=None, behind=None):
        "Note when a function of the library is at work, and how far its phase has come: `before` it, or `behind` it."
        plain = getattr(owner, function)
        def wrapped(*args, **more):
            name = name_of(*args)
            mine = name == phase or phase == 'two processes' and name in TRAINING
            inside.value += mine
            if before: moment(name, before(*args, **more))
            try: result = plain(*args, **more)
            finally: inside.value -= mine
            if behind: moment(name, behind(*args, **more))
            return result
        setattr(owner, function, wrapped)
    def kind(folder): return json.loads((folder/'config.json').read_text())['kind']
    def array(chunks, *_): return 'embeddings' if chunks.dtype == 'float16' else 'images'
    def chunk(chunks, start, _):
        again.value += start // chunks.chunk in chunks.done()
        return start
    for owner, function in (os, 'fsync'), (pd.DataFrame, 'to_csv'), (RecordWriter, 'write'):
        wrap(owner, function, lambda *_: 'full disk', before=lambda *_, **__: sum(name == 'full disk' for name, *_ in moments))
    wrap(datasets, 'image_store', lambda *_: 'images')
    wrap(runs, 'embed_views', lambda *_: 'embeddings')
    wrap(runs, 'fit', lambda objective, batches, schedule, folder, *_: kind(folder))
    wrap(training, '_append', lambda log, _: kind(log.parent), behind=lambda log, entry: entry['step'])
    wrap(ChunkedArray, 'write', array, before=chunk)
    wrap(training, '_save_checkpoint', lambda *_: 'checkpoint', before=lambda path, *_, step, **__: step + preset.teacher.steps * (kind(path.parent) == 'student'),
         behind=lambda *_, **__: -1)
    job(table, preset, store)
    if phase is None: store.with_suffix('.json').write_text(json.dumps(moments))

def begin(context, *args):
    "A process that works, and what is known of it: is it inside its phase; how many chunks it made again."
    inside, again = context.RawValue('i', 0), context.RawValue('i', 0)
    process = context.Process(target=work, args=(*args, inside, again))
    process.start()
    return process, inside, again

def start(context, *args):
    "One process to its end, or to its kill: was it stopped, and was it inside the phase; how many chunks it made again."
    process, inside, again = begin(context, *args)
    process.join()
    store, phase = args[2:4]
    said = words(store, process.pid).read_text()
    full = phase == 'full disk' and process.exitcode == 1 and 'StoreError' in said and 'the disk is full' in said and 'free some space' in said
    if process.exitcode not in (0, -signal.SIGKILL) and not full: sys.exit(f'a start failed:\n{said[-3000:]}')
    return process.exitcode != 0, inside.value > 0, again.value

def read_all(store):
    "Read every file that has its name: raises where one is half-written. What the runs have logged, and what they could go on from."
    from mtss.training import load_tensors
    for path in store.rglob('*'):
        if path.name.endswith('.tmp') or path.name.startswith('.'): continue
        if path.suffix == '.json': json.loads(path.read_text())
        if path.suffix == '.safetensors': load_tensors(path)
    logs = {}
    for log in store.glob('runs/*/log.csv'):
        lines = [[int(cell) for cell in line.split(',')[:3]] for line in log.read_text().split('\n')[1:-1]]      # a row may be cut short: it is not read
        logs[log.parent.name] = pd.DataFrame(lines, columns=['start', 'resumed_at', 'step'])
    return logs, checkpoints(store), sum(len(json.loads(path.read_text())['done']) for path in store.rglob('chunks.json'))

def disturb(phase, context, kills, table, preset, undisturbed, store, chance):
    "Kill a phase again and again; a row of the table."
    moments = [(value, then) for name, value, then in json.loads(undisturbed.with_suffix('.json').read_text()) if name == phase]
    values, array = sorted(value for value, _ in moments), phase in ('images', 'embeddings')
    # the row of the log at the step of the first checkpoint comes before it is written: the first kill waits for the next row. After the last row there is nothing left to kill
    first, last = (getattr(preset, phase).checkpoint_every, values[-2]) if phase in TRAINING else (0, values[-1])
    # how long a moment lasts: the write of a checkpoint, or the time from one row or chunk to the next
    lasts = statistics.median(b - a for (value, a), (_, b) in zip(moments, moments[1:]) if phase != 'checkpoint' or value >= 0)
    row = dict(phase=phase, inside=0, outside=0, runs=0, went_on=0, most_again=0, unit='chunks' if array else 'steps')
    while row['inside'] < kills:
        row['runs'] += 1
        if phase not in ('images', 'full disk'): shutil.copytree(undisturbed/'images', store/'images')
        logs, kept, chunks, killed = {}, {}, 0, True
        while killed:
            if row['inside'] == kills: wanted = float('inf')                                                # to the end
            elif phase == 'full disk': wanted = chance.uniform(0, 2 * last / kills)                         # a start counts its own writes
            else: wanted = first + (last - first) * (row['inside'] + 1 - chance.random()) / kills           # spread over the phase
            killed, inside, again = start(context, table, preset, store, phase, wanted, chance.uniform(0, lasts))
            row['went_on'] += bool(chunks if array else kept)
            row['inside'] += killed and inside; row['outside'] += killed and not inside
            assert again <= (phase in ('images', 'full disk')), f'{phase}: {again} chunks were made again'
            most, (now, kept_now, chunks_now) = again if array else 0, read_all(store)
            for run, log in now.items():
                before = logs.get(run, log[:0])
                new = log[len(before):]
                if not len(new): continue
                begun = kept.get(run, 0)
                assert set(new['resumed_at']) == {begun} and new['step'].iloc[0] > begun, f'{phase}: {run} did not go on from step {begun}'
                assert begun or not len(before) or phase not in TRAINING, f'{phase}: {run} began anew after a kill'
                repeated = max(0, before['step'].max() - begun) if len(before) else 0
                every = json.loads((store/'runs'/run/'config.json').read_text())['schedule']['checkpoint_every']
                assert repeated <= every, f'{phase}: {run} repeated {repeated} steps'
                if not array: most = max(most, repeated)
            row['most_again'] = max(row['most_again'], int(most))
            logs, kept, chunks = now, kept_now, chunks_now
        same(store, undisturbed)
        shutil.rmtree(store)
    return row

def two_at_once(context, kills, table, preset, undisturbed, store, chance):
    "Two processes want the same run, and the one that trains is killed and started again and again, at moments spread over the time of a run; a row of the table."
    def another(): return begin(context, table, preset, store, 'two processes', float('inf'), 0.)[:2]
    shutil.copytree(undisturbed/'images', store/'images')
    times = [then for name, _, then in json.loads(undisturbed.with_suffix('.json').read_text()) if name in TRAINING]
    pair, ended, waited, killed, begun = [another(), another()], [], 0, 0, time.monotonic()
    for n in range(kills):
        time.sleep(max(0, begun + .9 * (times[-1] - times[0]) * (n + chance.random()) / kills - time.monotonic()))
        # until one trains and has a checkpoint; or both have come to their end
        while not (any(inside.value for _, inside in pair) and list(store.glob('runs/*/checkpoint.safetensors'))) and any(one.is_alive() for one, _ in pair): time.sleep(.01)
        pair.sort(key=lambda one: one[1].value)
        one, inside = pair.pop()
        trained = inside.value > 0
        one.kill()
        one.join()
        killed += trained and one.exitcode == -signal.SIGKILL
        ended.append(one)
        other = pair[0][0]
        if other.is_alive(): os.kill(other.pid, signal.SIGSTOP)     # it holds still while files are looked at
        read_all(store)
        if other.is_alive(): os.kill(other.pid, signal.SIGCONT)
        pair.append(another())
    pair = [one for one, _ in pair]
    for one in pair: one.join()
    went_on, most = 0, 0
    for one in ended + pair:
        said = words(store, one.pid).read_text() if words(store, one.pid).exists() else ''              # killed before its first word
        if one.exitcode not in (0, -signal.SIGKILL): sys.exit(f'one of two failed:\n{said[-3000:]}')
        waited += 'waiting: another process' in said
    for run, log in read_all(store)[0].items():
        every, reached = json.loads((store/'runs'/run/'config.json').read_text())['schedule']['checkpoint_every'], 0
        starts = [rows for _, rows in log.groupby((log['step'].diff().fillna(-1) <= 0).cumsum() + log['start'].diff().fillna(0).ne(0).cumsum())]
        assert len(starts) <= len(ended + pair), f'two processes: both trained {run}'         # each has its rows one after another
        for rows in starts:
            begun_at = rows['resumed_at'].iloc[0]
            assert begun_at % every == 0 and rows['step'].iloc[0] > begun_at and reached - begun_at <= every, f'two processes: {run} went from {reached} to {begun_at}'
            went_on, most, reached = went_on + (begun_at > 0), max(most, reached - begun_at), rows['step'].iloc[-1]
    assert waited and (went_on or not killed), f'two processes: {waited} waited, {went_on} went on from a checkpoint'
    same(store, undisturbed)
    return dict(phase='two processes', inside=killed, outside=kills - killed, runs=1, went_on=int(went_on), most_again=int(most), unit='steps')

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20, help='how many in each phase')
    parser.add_argument('--photos', type=int, default=12_000, help='how many: as many embeddings are computed, 1.4 of each')
    parser.add_argument('--phases', nargs='+', default=PHASES, choices=PHASES)
    parser.add_argument('--full', action='store_true', help='64 px, networks of 750 steps, which take a minute or more on two cores (it says how long they took): hours in all')
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    args = parser.parse_args()
    context, chance, rows = multiprocessing.get_context('forkserver'), random.Random(args.seed), []
    context.set_forkserver_preload(['mtss.runs', 'conftest', 'test_interrupted'])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        table, preset, undisturbed = write_table(folder/'photos', args.photos), settings(args.full, args.photos), folder/'undisturbed'
        begun = time.monotonic()
        start(context, table, preset, undisturbed, None, 0, 0.)
        moments = pd.DataFrame(json.loads(undisturbed.with_suffix('.json').read_text()), columns=['name', 'value', 'then'])
        took = moments.groupby('name')['then'].agg(lambda then: then.max() - then.min())
        print(f'a run that nobody disturbs: {time.monotonic() - begun:.0f} s; from the first row of its log to the last, ' + ', '.join(f'the {name} {took[name]:.0f} s' for name in TRAINING), flush=True)
        for phase in args.phases:
            shared = context, args.kills, table, preset, undisturbed, folder/phase, chance
            rows.append(two_at_once(*shared) if phase == 'two processes' else disturb(phase, *shared))
            print(rows[-1], f'{time.monotonic() - begun:.0f} s', flush=True)
    print(pd.DataFrame(rows).to_string(index=False), '\nevery run ended with the bits of the undisturbed one')

if __name__ == '__main__': main()
