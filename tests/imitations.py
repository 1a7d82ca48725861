"""Small imitations of the public benchmarks, traps included. All of it is invented; each `write_…` returns the table that must be read."""
import json
import numpy as np, pandas as pd
from PIL import Image
from conftest import photo

ITEMS = ['Loud_Tee', "It's_A_Skirt", 'Salt_&_Pepper_Top', 'Open-Knit_Ombr&eacute;_Sweater', '1981_Ringer_Tee']

def put(path, text, end='\n'):
    "Write a text file, whatever the folder, with some line end."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.replace('\n', end).encode())

def draw(root, images, pictures):
    "A picture for each image, or an empty file where none is looked at."
    for n, image in enumerate(images):
        (root/image).parent.mkdir(parents=True, exist_ok=True)
        if pictures: Image.fromarray(photo(n, 32)).save(root/image, 'JPEG', quality=90)
        else: (root/image).touch()

def part_of(n): return 'val' if n % 6 == 4 else 'test' if n % 6 == 5 else 'train'

def marks(n, counts, rare=()):
    "Bool, n × sum of counts: of each type often one class and seldom two; those in `rare` only on the last test image."
    chance = np.random.default_rng(7)
    rows = np.zeros((n, sum(counts)), bool)
    starts = np.cumsum([0, *counts[:-1]])
    for i in range(n):
        for start, count in zip(starts, counts):
            for _ in range(chance.choice([0, 1, 2], p=[.2, .6, .2])): rows[i, start + chance.integers(count)] = True
    for column in rare: rows[:, column] = np.arange(n) == max(i for i in range(n) if part_of(i) == 'test')
    return rows

def joined(rows, types, names):
    "Cells by type from marks."
    return {kind: ['|'.join(name for name, own, marked in zip(names, types, row) if marked and own == kind) for row in rows] for kind in dict.fromkeys(types)}

# --- DeepFashion

KINDS = ('texture', 'fabric', 'shape', 'part', 'style')
ATTRIBUTES = [('abstract chevron print', 1), ('floral', 1), ('unicorn', 1), ('knit', 2), ('faux  fur', 2), ('a-line', 3), ('mini', 3), ('v-neck', 4), ('ruffled hem', 4), ('boho|chic', 5), ('summer', 5)]
CATEGORIES = ['Anorak', 'Tee', 'Button-Down', 'Skirt', 'Dress', 'Robe']

def padded(title, rows, count=None):
    "One of DeepFashion's lists."
    width = max(len(name) for name, _ in rows) + 4
    return f'{len(rows) if count is None else count} \n{title}\n' + ''.join(f'{name:<{width}}{values}\n' for name, values in rows)

def boxes(n): return [(2, 3, 28 + i % 3, 31) for i in range(n)]

def write_deepfashion(root, n=96, pictures=True):
    images = [f'img/{ITEMS[i % len(ITEMS)]}/img_{i:08}.jpg' for i in range(n)]
    rows, splits, box = marks(n, (3, 2, 2, 2, 2), rare=[2]), [part_of(i) for i in range(n)], boxes(n)
    category, folder = [(i + i // 6) % len(CATEGORIES) for i in range(n)], root/'Anno_coarse'
    put(folder/'list_attr_cloth.txt', padded('attribute_name   attribute_type', ATTRIBUTES))
    put(folder/'list_category_cloth.txt', padded('category_name \tcategory_type', [(name, f'\t{1 + k % 3}') for k, name in enumerate(CATEGORIES)]))
    put(folder/'list_attr_img.txt', padded('image_name  attribute_labels', [(image, ' '.join(f'{1 if mark else -1:2}' for mark in row)) for image, row in zip(images, rows)], count=n + 1))
    put(folder/'list_category_img.txt', padded('image_name  category_label', [(image, k + 1) for image, k in zip(images, category)]), '\r\n')
    put(folder/'list_bbox.txt', '\ufeff' + padded('image_name  x_1  y_1  x_2  y_2', [(image, ' '.join(f'{x:03}' for x in own)) for image, own in zip(images, box)]))
    put(root/'Eval/list_eval_partition.txt', padded('image_name  evaluation_status', list(zip(images, splits)), count=''))
    draw(root, [f'Img/{image.replace("&eacute;", "é")}' for image in images], pictures)    # as a clever unpacking tool leaves them
    names = [' '.join(name.replace('|', '/').split()) for name, _ in ATTRIBUTES]
    return pd.DataFrame(dict(image=[f'Img/{image.replace("&eacute;", "é")}' for image in images], split=splits) | {corner: [str(own[k]) for own in box] for k, corner in enumerate(('x0', 'y0', 'x1', 'y1'))}
                        | dict(category=[CATEGORIES[k] for k in category]) | joined(rows, [KINDS[k - 1] for _, k in ATTRIBUTES], names), dtype=str)

FINE = ('texture', 'sleeve', 'length', 'neckline', 'fabric', 'fit')
FINE_NAMES = ['dotted', 'plain', 'short_sleeve', 'sleeveless', 'maxi_length', 'no_dress', 'v_neckline', 'no_neckline', 'denim', 'knit', 'tight', 'loose']

def write_deepfashion_fine(root, n=96, pictures=True):
    images = [f'img/{ITEMS[i % len(ITEMS)]}/img_{i:08}.jpg' for i in range(n)]
    rows, box, folder = marks(n, (2,) * 6), boxes(n), root/'Anno_fine'
    put(folder/'list_attr_cloth.txt', padded('attribute_name   attribute_type', [(name, k // 2 + 1) for k, name in enumerate(FINE_NAMES)]))
    put(folder/'list_category_cloth.txt', padded('category_name  category_type', [(name, 1 + k % 3) for k, name in enumerate(CATEGORIES)]))
    order = []
    for split in 'train', 'val', 'test':
        own = [i for i in range(n) if part_of(i) == split]
        order += own
        put(folder/f'{split}.txt', ''.join(f'{images[i]}\n' for i in own))
        put(folder/f'{split}_attr.txt', ''.join(' '.join(str(int(mark)) for mark in rows[i]) + ' \n' for i in own))
        put(folder/f'{split}_cate.txt', ''.join(f'{(i + i // 6) % len(CATEGORIES) + 1}\n' for i in own), '\r\n')
        put(folder/f'{split}_bbox.txt', ''.join(' '.join(f'{x:03}' for x in box[i]) + '\n' for i in own))
    draw(root, images, pictures)
    return pd.DataFrame(dict(image=images, split=[part_of(i) for i in range(n)]) | {corner: [str(own[k]) for own in box] for k, corner in enumerate(('x0', 'y0', 'x1', 'y1'))}
                        | dict(category=[CATEGORIES[(i + i // 6) % len(CATEGORIES)] for i in range(n)]) | joined(rows, [FINE[k // 2] for k in range(12)], FINE_NAMES), dtype=str).iloc[order].reset_index(drop=True)

# --- iMaterialist-Fashion 2018

LABELS = [(3, 1, 'Athletic Pants', 'category'), (89, 1, 'Hosiery, Stockings, Tights', 'category'), (92, 1, 'Capes & Capelets', 'category'), (14, 2, 'Beige', 'color'), (17, 2, 'Black', 'color'), (40, 3, 'Female', 'gender'), (41, 3, 'Male', 'gender'),
          (29, 4, 'Canvas', 'material'), (35, 4, 'Cashmere', 'material'), (7, 5, 'Backless', 'neckline'), (8, 5, 'Round', 'neckline'), (1, 6, 'Argyle', 'pattern'), (28, 6, 'Camouflage', 'pattern'), (60, 8, 'Puff', 'sleeve'), (61, 8, 'Long', 'sleeve'),
          (2, 9, 'Asymmetric', 'style'), (9, 9, 'Bandage', 'style')]

def write_imaterialist(root, n=96, pictures=True):
    "The last two images of train are dead links."
    names = [f'"{name}"' if ',' in name else name for _, _, name, _ in LABELS]
    put(root/'iMat_fashion_2018_label_map_228.csv', '\n'.join(['labelId,taskId,labelName,taskName', *(f'{label},{task},{name},{kind}' for (label, task, _, kind), name in sorted(zip(LABELS, names)))]), '\r\n')
    types, rows = [kind for *_, kind in LABELS], marks(n, (3, 2, 2, 2, 2, 2, 2, 2))
    cells, parts = joined(rows, types, [name for _, _, name, _ in LABELS]), dict(train=range(2 * n // 3), validation=range(2 * n // 3, n), test=range(n, n + n // 6))
    table, lost = [], [2 * n // 3 - 2, 2 * n // 3 - 1]
    for part, own in parts.items():
        text, image, label = (int, 'image_id', 'label_id') if part == 'validation' else (str, 'imageId', 'labelId')
        record = dict(info=dict(year=2018)) | dict(images=[dict(url=f'https://example.org/{i:x}-large') | {image: text(i)} for i in own])
        if part != 'test': record['annotations'] = [{label: [text(LABELS[k][0]) for k in np.flatnonzero(rows[i])], image: text(i)} for i in reversed(own)]
        put(root/f'{part}.json', json.dumps(record, indent=4))
        kept = [i for i in own if i not in lost]
        draw(root, [f'{part}/{i}.jpg' for i in kept], pictures)
        table += [dict(image=f'{part}/{i}.jpg', split=dict(train='train', validation='dealt', test='unlabeled')[part]) | {kind: cells[kind][i] if part != 'test' else '' for kind in cells} for i in kept]
    return pd.DataFrame(table, dtype=str)

# --- DARN

DARN = dict(category=20, button=13, color=55, length=7, pattern=28, shape=11, collar_shape=26, sleeve_length=8, sleeve_shape=17)

def write_darn(root, n=96, pictures=True):
    "The last image of train is a dead link; the values lie in the lower third, so that every class is in train."
    chance, table = np.random.default_rng(3), []
    for split, part in dict(train='train', val='valid', test='test').items():
        own = [i for i in range(n) if part_of(i) == split]
        values = {i: [int(chance.integers(0, max(3, count // 6))) for count in DARN.values()] for i in own}
        if part == 'train': values |= {own[k]: [min(k, max(3, count // 6) - 1) for count in DARN.values()] for k in range(9)}
        put(root/f'filenames_{part}.txt', ''.join(f'pic/{part}/{i}.jpg\n' for i in own))
        if part == 'train': put(root/'label_train.txt', ''.join('\t'.join(map(str, [k, *(x for pair in enumerate(values[i]) for x in pair)])) + '\n' for k, i in enumerate(own)))
        else:
            rows = [f'{k} {kind} {value}\n' for k, i in enumerate(own) for kind, value in enumerate(values[i])]
            put(root/f'query_{part}.txt', ''.join(rows[::3]))
            put(root/f'candidate_{part}.txt', ''.join(rows[1::3] + rows[2::3] + rows[:5]))
        kept = own[:-1] if part == 'train' else own
        draw(root, [f'pic/{part}/{i}.jpg' for i in kept], pictures)
        table += [dict(image=f'pic/{part}/{i}.jpg', split=split) | {kind: f'{kind} {value}' if value else '' for kind, value in zip(DARN, values[i])} for i in kept]
    return pd.DataFrame(table, dtype=str)

# --- Fashion Product Images

CHOICES = {'Pattern': ['Printed', 'Solid', 'NA'], 'Fabric': ['Cotton', 'Blended', ''], 'Sleeve Length': ['Three-Quarter Sleeves', 'Sleeveless', 'NA'], 'Fit': ['Slim Fit', 'Regular Fit', 'NA']}

def write_fashion_product(root, n=96, pictures=True, year=True):
    "Every third row is a watch; a name in five holds commas; the last garment has no file in styles/."
    chance, table, lines = np.random.default_rng(5), [], ['id,gender,masterCategory,subCategory,articleType,baseColour,season,' + ('year,' if year else '') + 'usage,productDisplayName' + ('' if year else ',colorgroup')]
    for i in range(3 * n // 2):
        number, name, garment = 10_000 + i, f'Tall Tree {i // 2} Shirt' + (', Slim, Long' if i % 5 == 0 else ''), i % 3 != 2
        gender, article, colour, usage = (options[chance.integers(len(options))] for options in (['Men', 'Women'], ['Tshirts', 'Track Pants'], ['Navy Blue', 'White', 'Red'], ['Casual', 'Formal']))
        middle = f"{colour},Fall,{'2011,' if year else ''}{usage},{name}{'' if year else ',Blue'}"
        lines.append(f'{number},{gender},' + (f'Apparel,Topwear,{article},' if garment else 'Accessories,Watches,Watches,') + middle)
        if not garment: continue
        chosen = {key: values[chance.integers(3)] for key, values in CHOICES.items()} | {'Neck' if i % 2 else 'Collar': ['V-Neck', 'Polo Collar', 'NA'][chance.integers(3)]}
        more = ['NA', 'Black'][chance.integers(2)]
        bare = i >= 3 * n // 2 - 2
        if bare: chosen, more = {}, ''
        else: put(root/f'styles/{number}.json', json.dumps(dict(meta=dict(code=200), data=dict(id=number, colour1=more, colour2='', articleAttributes=chosen))))
        alike = lambda text: '' if text in ('', 'NA') else text.lower().replace(' ', '_').replace('-', '_')
        table.append(dict(image=f'images/{number}.jpg', split='dealt', category=alike(article), gender=alike(gender), color='|'.join(filter(None, [alike(colour), alike(more)])), pattern=alike(chosen.get('Pattern', '')), fabric=alike(chosen.get('Fabric', '')),
                          sleeve=alike(chosen.get('Sleeve Length', '')), neckline=alike(chosen.get('Neck', chosen.get('Collar', ''))), fit=alike(chosen.get('Fit', '')), style=alike(usage)))
    put(root/'styles.csv', '\n'.join(lines) + '\n', '\r\n')
    draw(root, [row['image'] for row in table], pictures)
    return pd.DataFrame(table, dtype=str)

IMITATIONS = dict(deepfashion=write_deepfashion, deepfashion_fine=write_deepfashion_fine, imaterialist=write_imaterialist, darn=write_darn, fashion_product=write_fashion_product)
