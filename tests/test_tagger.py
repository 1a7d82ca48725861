"""The tagger outside: in ONNX, in another process, with a teacher from elsewhere."""
import json, subprocess, sys
import numpy as np, onnx, onnxruntime, pytest, torch
from PIL import Image
from conftest import little, photo, trained
from mtss.datasets import load_dataset, read_image
from mtss.models import BorrowedTeacher, Student, cosine_scores
from mtss.runs import calibrate, judge_scores, load_for, tagger_scores, teacher_scores, train_student, train_teachers
from mtss.schema import AttributeType, Schema
from mtss.tagger import Tagger
from mtss.views import plain_view

@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    "A store; data, teachers and student in it."
    store = tmp_path_factory.mktemp('finished')
    return store, *trained(store)

@pytest.fixture(scope='module')
def tagger(finished):
    "One whose confidences lean towards common classes."
    _, data, _, student = finished
    calibrate(student, data, leaning=True)
    assert any(offset.any() for offset in student.offsets.values())
    return student

@pytest.fixture(scope='module')
def session(tagger, tmp_path_factory):
    "The exported tagger in ONNX Runtime."
    path = tmp_path_factory.mktemp('onnx')/'tagger.onnx'
    tagger.export_onnx(path)
    return onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])

def agree(session, tagger, images):
    "ONNX Runtime and PyTorch give the same cosines."
    found = dict(zip([output.name for output in session.get_outputs()], session.run(None, dict(images=images.numpy()))))
    wanted = tagger.scores(images)
    assert found.keys() == wanted.keys() == set(tagger.schema.names)
    for name in wanted:
        assert found[name].shape == (len(images), len(tagger.schema[name]))
        assert np.abs(found[name] - wanted[name].numpy()).max() < 1e-4

@pytest.mark.parametrize('batch', [1, 2, 7, 64])
def test_onnx_scores_the_same_on_random_images(batch, session, tagger):
    agree(session, tagger, torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(batch)))

def test_onnx_scores_the_same_on_images_of_one_colour(session, tagger):
    agree(session, tagger, torch.stack([torch.full((3, 16, 16), value) for value in (0., .5, 1.)]))

def test_onnx_scores_the_same_on_real_photos(session, tagger, catalogue):
    files = sorted((catalogue.parent/'images').glob('*.jpg'))[::100]
    agree(session, tagger, plain_view(np.stack([read_image(file, 16) for file in files])))

def test_onnx_takes_a_type_that_is_called_like_a_part_of_the_network(tmp_path):
    names = ('view', 'linear', 'mean')
    torch.manual_seed(0)
    tagger = Tagger(Schema(tuple(AttributeType(name, ('front', 'back')) for name in names)), Student('small', dict.fromkeys(names, 8)), {name: torch.randn(2, 8) for name in names}, 'small', 16)
    tagger.export_onnx(tmp_path/'odd.onnx')
    session = onnxruntime.InferenceSession(tmp_path/'odd.onnx', providers=['CPUExecutionProvider'])
    assert tuple(output.name for output in session.get_outputs()) == names
    agree(session, tagger, torch.rand(3, 3, 16, 16))

def test_onnx_says_what_it_gives(session, tagger):
    record = session.get_modelmeta().custom_metadata_map
    assert {name: list(tagger.schema[name].classes) for name in tagger.schema.names} == json.loads(record['schema'])
    assert json.loads(record['calibration']) == {name: [tagger.temperatures[name], offset.tolist()] for name, offset in tagger.offsets.items()} and record['image_size'] == '16'
    assert session.get_inputs()[0].shape[1:] == [3, 16, 16] and isinstance(session.get_inputs()[0].shape[0], str)

def test_a_file_is_seen_as_the_photos_that_were_judged(tagger, tmp_path):
    "Stored at one size and looked at in another: reports, confidences, `predict` and ONNX see the same pixels of a large photo."
    files = [f'{n}.jpg' for n in range(6)]
    for n, file in enumerate(files): Image.fromarray(photo(n, 400)).resize((300, 400)).save(tmp_path/file, quality=90)
    kind = tagger.schema.names[0]
    (tmp_path/'annotations.csv').write_text(f'image,split,{kind}\n' + ''.join(f'{file},{split},{tagger.schema[kind].classes[n % 2]}\n' for n, (file, split) in enumerate(zip(files, ['train'] * 4 + ['val', 'test']))))
    stored = load_dataset(tmp_path/'annotations.csv', image_size=40, store=tmp_path/'store').pixels[np.arange(6)]
    tagger = Tagger(tagger.schema, tagger.student, tagger.label_embeddings, tagger.backbone, 40, 16, tagger.temperatures, offsets=tagger.offsets)
    judged = tagger.student(plain_view(stored, 16))[kind]
    seen = tagger.scores(plain_view(stored))
    assert torch.allclose(seen[kind], cosine_scores(judged, tagger.label_embeddings[kind]), atol=1e-6)
    looked_at = []
    tagger.confidences = lambda images: looked_at.append(images) or Tagger.confidences(tagger, images)
    tagger.predict([tmp_path/file for file in files])
    assert torch.equal(looked_at[0], plain_view(stored))
    in_one_step = plain_view(np.stack([read_image(tmp_path/file, 16) for file in files]))
    assert (in_one_step - plain_view(stored, 16)).abs().max() > .05                     # what the two steps are for
    tagger.save(tmp_path/'tagger.safetensors'); tagger.export_onnx(tmp_path/'tagger.onnx')
    assert (again := Tagger.load(tmp_path/'tagger.safetensors')).image_size == 40 and again.view_size == 16
    agree(onnxruntime.InferenceSession(tmp_path/'tagger.onnx', providers=['CPUExecutionProvider']), tagger, plain_view(stored))

def test_each_type_may_have_its_own_threshold(tagger):
    photos = [photo(n, 32) for n in range(4)]
    everything, first = tagger.predict(photos, top=99), tagger.schema.names[0]
    thresholds = {name: 2. if name == first else 0. for name in tagger.schema.names}      # above 1: never sure enough
    assert tagger.predict(photos, top=99, min_confidence=thresholds) == [tags | {first: []} for tags in everything]
    with pytest.raises(ValueError, match=f"min_confidence has no value for .*{first}"): tagger.predict(photos, min_confidence={})
    with pytest.raises(ValueError, match='min_confidence names tint; the attribute types are'): tagger.predict(photos, min_confidence=thresholds | dict(tint=.8))
    for percent in (80, '80%', dict(thresholds, **{first: 80.})):
        with pytest.raises(ValueError, match="min_confidence='?80.* for .*: give a share, such as .8 for 80 percent"): tagger.predict(photos, min_confidence=percent)

ELSEWHERE = '''
import json, sys
from mtss.tagger import Tagger
tagger = Tagger.load(sys.argv[1])
print(json.dumps(dict(schema=tagger.schema.to_json(), key=tagger.key, tags=tagger.predict(sys.argv[2:], top=99))))
'''

def test_a_saved_tagger_says_the_same_in_another_process(tagger, tmp_path):
    tagger.save(tmp_path/'tagger.safetensors')
    files = [str(tmp_path/f'{n}.png') for n in range(3)]
    for n, file in enumerate(files): Image.fromarray(photo(n, 64)).save(file)
    found = json.loads(subprocess.run([sys.executable, '-c', ELSEWHERE, tmp_path/'tagger.safetensors', *files], check=True, capture_output=True, text=True).stdout)
    wanted = dict(schema=tagger.schema.to_json(), key=tagger.key, tags=tagger.predict(files, top=99))
    assert found == json.loads(json.dumps(wanted))

# --- a teacher from elsewhere

class Colours:
    "Knows colours from their mean alone, and counts how often it is asked."
    def __init__(self): self.asked = 0
    def __call__(self, images):
        self.asked += 1
        mean = images.mean((2, 3))
        return torch.cat([mean, mean.square(), torch.ones(len(images), 1)], 1)

def borrowed(data, key='mean colours 1'):
    "A teacher of colour whose dictionary is the mean embedding of each colour's training images."
    embed = Colours()
    labels = torch.as_tensor(data.targets('colour').labels[data.rows('train')]).float()
    dictionary = labels.T @ embed(plain_view(data.pixels[data.rows('train')])) + 1e-3
    embed.asked = 0
    return BorrowedTeacher(embed, dictionary, key)

def test_a_borrowed_teacher_stands_in_for_one_of_ours(finished, tmp_path):
    store, data, teachers, own = finished
    teacher = borrowed(data)
    student = train_student(data, teachers | dict(colour=teacher), 1, little(), store=store)
    assert teacher.embed.asked and student.key != own.key
    assert torch.equal(student.label_embeddings['colour'], teacher.label_embeddings)
    assert student.predict(photo(0)).keys() == set(data.schema.names)
    again = borrowed(data)
    found = train_student(data, teachers | dict(colour=again), 1, little(), store=store)
    assert found.key == student.key and not again.embed.asked            # found in the store
    other = borrowed(data, 'mean colours 2')
    assert train_student(data, teachers | dict(colour=other), 1, little(), store=store).key != student.key and other.embed.asked

def test_a_borrowed_teacher_is_asked_at_every_step_where_no_embeddings_are_kept(finished):
    store, data, teachers, _ = finished
    teacher, settings = borrowed(data), little(kept_embeddings=0)
    train_student(data, teachers | dict(colour=teacher), 1, settings, store=store)
    assert teacher.embed.asked == settings.student.steps + 1               # once to see that it fits its dictionary

def test_a_borrowed_teacher_is_judged_like_ours(finished):
    _, data, teachers, student = finished
    test = data.rows('test')
    judged = judge_scores(data, teacher_scores(teachers | dict(colour=borrowed(data)), data, test, 16))
    assert 0 <= judged['colour']['R@3'] <= 1 and judged['category']['R@3'] == judge_scores(data, teacher_scores(teachers, data, test, 16))['category']['R@3']
    assert judge_scores(data, tagger_scores(student, data, test)).keys() == judged.keys()

@pytest.mark.parametrize('wrong, parts', [
    (lambda data: borrowed(data, ''), ['colour', 'key']),
    (lambda data: BorrowedTeacher(Colours(), torch.ones(3, 7), 'three'), ['colour', '3', 'classes']),
    (lambda data: BorrowedTeacher(Colours(), torch.ones(len(data.schema['colour']), 5), 'five'), ['colour', '5', '7'])], ids=['without a key', 'other classes', 'other length'])
def test_a_borrowed_teacher_that_does_not_fit_is_refused(wrong, parts, finished):
    store, data, teachers, _ = finished
    before = sorted(store.rglob('model.safetensors'))
    with pytest.raises(ValueError) as error: train_student(data, teachers | dict(colour=wrong(data)), 1, little(), store=store)
    for part in parts: assert part in str(error.value)
    assert sorted(store.rglob('model.safetensors')) == before

@pytest.mark.parametrize('function, parts', [
    (lambda x: torch.cat([x, x]).mean((2, 3)), ['for 1 images', 'a row for each image']),
    (lambda x: x.mean((2, 3))[0], ['(3,)', 'B × D']),
    (lambda x: x.mean((2, 3)) * float('nan'), ['not finite', 'correct its function']),
    (lambda x: dict(x=x), ['what its function returns, a dict, is no tensor'])], ids=['two rows an image', 'no batch', 'nan', 'no tensor'])
def test_embeddings_that_are_none_are_refused_before_any_is_kept(function, parts, finished):
    store, data, teachers, _ = finished
    dictionary = np.ones((len(data.schema['colour']), 3))
    before = sorted((store/'embeddings').iterdir())
    with pytest.raises(ValueError) as error: train_student(data, teachers | dict(colour=BorrowedTeacher(function, dictionary, 'odd one')), 1, little(), store=store)
    for part in ("'odd one'", *parts): assert part in str(error.value)
    assert sorted((store/'embeddings').iterdir()) == before

def test_a_dictionary_that_is_none_is_refused():
    for dictionary in (np.ones(3), torch.full((3, 2), torch.inf)):
        with pytest.raises(ValueError, match="dictionary of 'odd one'.*give C × D finite numbers"): BorrowedTeacher(torch.flatten, dictionary, 'odd one')

def test_two_functions_have_two_keys(finished):
    "Or the embeddings of one would be taken for those of the other."
    store, data, teachers, _ = finished
    def teacher(kind, function): return BorrowedTeacher(function, torch.rand(len(data.schema[kind]), 3), 'mine')
    with pytest.raises(ValueError, match="two teachers from elsewhere are called 'mine'.*a key of its own"):
        train_student(data, teachers | {kind: teacher(kind, function) for kind, function in dict(colour=lambda x: x.mean((2, 3)), category=lambda x: x.amax((2, 3))).items()}, 1, little(), store=store)

def test_a_borrowed_network_can_learn_on_afterwards(finished):
    store, data, teachers, _ = finished
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    train_student(data, teachers | dict(colour=BorrowedTeacher(network, torch.rand(len(data.schema['colour']), 4), 'a network')), 1, little(), store=store)
    assert all(weight.requires_grad and weight.grad is None for weight in network.parameters())

def test_no_image_has_no_scores(finished):
    _, data, teachers, student = finished
    for scores in (lambda: tagger_scores(student, data, np.arange(0)), lambda: teacher_scores(teachers, data, np.arange(0), 16)):
        with pytest.raises(ValueError, match='give at least one'): scores()

def test_every_type_needs_its_teacher(finished):
    store, data, teachers, _ = finished
    with pytest.raises(ValueError, match='category.*give one teacher for each attribute type'):
        train_student(data, {name: teacher for name, teacher in teachers.items() if name != 'category'}, 1, little(), store=store)

def test_a_box_of_nan_is_none_and_text_is_numbers(tagger):
    "As a table of boxes has them."
    image = photo(3, 32)
    assert tagger.predict([image], boxes=np.full((1, 4), np.nan)) == tagger.predict([image])
    assert tagger.predict([image], boxes=[['4', '4', '28', '28']]) == tagger.predict([image], boxes=[(4, 4, 28, 28)])
    with pytest.raises(ValueError, match='give four numbers of pixels'): tagger.predict([image], boxes=[['a', 'b', 'c', 'd']])
    with pytest.raises(ValueError, match='one of four numbers'): tagger.predict([image], boxes=[[np.nan, 0, 10, 10]])
    with pytest.raises(ValueError, match='top=-1: give how many'): tagger.predict([image], top=-1)
