"""The methods' equations, written out as loops over scalars.

Slow and plain on purpose, and independent of synreal. Inputs are float64 tensors; results are differentiable.
"""

import math

import torch


def stacked(nested):
    """Turn nested lists of 0-d tensors into one tensor."""
    if isinstance(nested, torch.Tensor):
        return nested
    return torch.stack([stacked(item) for item in nested])


def positions(v):
    return [(i, j) for i in range(v.shape[2]) for j in range(v.shape[3])]


def gap(v):
    where = positions(v)
    return stacked(
        [[sum(v[n, c, i, j] for i, j in where) / len(where) for c in range(v.shape[1])] for n in range(len(v))]
    )


def attention(v):
    """a[i,j] = <v[:,i,j], g> / sum <v[:,i',j'], g>, uniform where g = 0; (N, H, W)."""
    n, c, height, width = v.shape
    mean = gap(v)
    maps = []
    for sample in range(n):
        score = {(i, j): sum(v[sample, k, i, j] * mean[sample, k] for k in range(c)) for i, j in positions(v)}
        total = sum(score.values())
        if float(total.detach()) == 0:
            score = {position: torch.ones_like(total) for position in score}
            total = sum(score.values())
        maps.append([[score[i, j] / total for j in range(width)] for i in range(height)])
    return stacked(maps)


def attentional_pool(v, attend_from=None):
    weights = attention(v if attend_from is None else attend_from)
    return stacked(
        [
            [sum(v[n, c, i, j] * weights[n, i, j] for i, j in positions(v)) for c in range(v.shape[1])]
            for n in range(len(v))
        ]
    )


def flat_pool(v):
    n, channels, height, width = v.shape
    return stacked(
        [[v[m, c, i, j] for c in range(channels) for i in range(height) for j in range(width)] for m in range(n)]
    )


def channel_pool(v):
    n, channels, height, width = v.shape
    return stacked(
        [
            [sum(v[m, c, i, j] for c in range(channels)) / channels for i in range(height) for j in range(width)]
            for m in range(n)
        ]
    )


def spatial_pool(v):
    n, channels, height, width = v.shape
    rows = []
    for m in range(n):
        over_height = [
            sum(v[m, c, i, j] for i in range(height)) / height for c in range(channels) for j in range(width)
        ]
        over_width = [sum(v[m, c, i, j] for j in range(width)) / width for c in range(channels) for i in range(height)]
        rows.append(over_height + over_width)
    return stacked(rows)


POOLINGS = {
    "none": flat_pool,
    "gap": gap,
    "channel": channel_pool,
    "spatial": spatial_pool,
    "attentional": attentional_pool,
}


def grid_average(v, cells):
    """Cell i of a side of length S covers the positions floor(i S / cells) to ceil((i + 1) S / cells) - 1."""
    n, channels, height, width = v.shape

    def bounds(cell, side):
        return range(math.floor(cell * side / cells), math.ceil((cell + 1) * side / cells))

    def average(m, c, row, column):
        inside = [v[m, c, i, j] for i in bounds(row, height) for j in bounds(column, width)]
        return sum(inside) / len(inside)

    return stacked(
        [
            [[[average(m, c, row, column) for column in range(cells)] for row in range(cells)] for c in range(channels)]
            for m in range(n)
        ]
    )


def feature_l2(student, teacher, spatial=False):
    if spatial:
        student, teacher = grid_average(student, 3), grid_average(teacher, 3)
    n, channels, _, _ = student.shape
    distances = [
        sum((student[m, c, i, j] - teacher[m, c, i, j]) ** 2 for c in range(channels))
        for m in range(n)
        for i, j in positions(student)
    ]
    return sum(distances) / len(distances)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def logsumexp(values):
    highest = max(values, key=lambda value: float(value.detach()))
    return highest + sum((value - highest).exp() for value in values).log()


def queue_logsumexp(z, queue, temperature):
    return stacked([logsumexp([dot(row, key) / temperature for key in queue]) for row in z])


def info_nce(anchor, positive, queue, temperature):
    """-log(e^s / (e^s + sum_k e^s_k)) = log(1 + sum_k e^(s_k - s)), per row."""
    losses = []
    for z, key in zip(anchor, positive, strict=True):
        above = [(dot(z, q) - dot(z, key)) / temperature for q in queue]
        highest = max((float(a.detach()) for a in above), default=0.0)
        if highest <= 0:
            losses.append(torch.log1p(sum((a.exp() for a in above), start=torch.zeros((), dtype=torch.float64))))
        else:
            losses.append(highest + (math.exp(-highest) + sum((a - highest).exp() for a in above)).log())
    return stacked(losses)


def causal_invariance(online, target, queue, temperature, target_temperature):
    """-sum_k p_tb(z_bar)[k] log p_t(z)[k], per row."""
    losses = []
    for z, z_bar in zip(online, target, strict=True):
        ours = [dot(z, key) / temperature for key in queue]
        theirs = [dot(z_bar, key) / target_temperature for key in queue]
        whole, whole_theirs = logsumexp(ours), logsumexp(theirs)
        losses.append(sum((t - whole_theirs).exp() * (whole - o) for o, t in zip(ours, theirs, strict=True)))
    return stacked(losses)


def moving_average(average, value, decay):
    flat = [decay * a + (1 - decay) * v for a, v in zip(average.flatten(), value.flatten(), strict=True)]
    return stacked(flat).reshape(average.shape)


def unit(vectors):
    """v / ||v|| by row; a row of zeros has no direction and stays zero."""
    rows = []
    for row in vectors:
        length = sum(value**2 for value in row)
        rows.append([value * 0 if float(length.detach()) == 0 else value / length.sqrt() for value in row])
    return stacked(rows)


def guidance(student, teacher, pooling):
    """|| P(f) / ||P(f)|| - P(f_o) / ||P(f_o)|| ||^2, per sample."""
    ours, theirs = unit(POOLINGS[pooling](student)), unit(POOLINGS[pooling](teacher))
    differences = [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(ours, theirs, strict=True)]
    return stacked([sum(d**2 for d in row) for row in differences])


def log_softmax(values):
    total = logsumexp(values)
    return [value - total for value in values]


def distillation_kl(student, teacher, temperature):
    """sum_c p_o[c] (log p_o[c] - log p[c]) T^2 with p = softmax(logits / T), the mean over samples and positions."""
    classes = student.shape[1]
    ours, theirs = (logits.reshape(*logits.shape[:2], -1) for logits in (student, teacher))
    divergences = []
    for n in range(ours.shape[0]):
        for position in range(ours.shape[2]):
            log_p = log_softmax([ours[n, c, position] / temperature for c in range(classes)])
            log_q = log_softmax([theirs[n, c, position] / temperature for c in range(classes)])
            divergences.append(sum(log_q[c].exp() * (log_q[c] - log_p[c]) for c in range(classes)))
    return sum(divergences) / len(divergences) * temperature**2


def weight_l2(weights, anchors, importance=None):
    """sum_p omega_p (w_p - w_p^0)^2."""
    total = torch.zeros((), dtype=torch.float64)
    for index, (weight, anchor) in enumerate(zip(weights, anchors, strict=True)):
        for place, (w, w0) in enumerate(zip(weight.flatten(), anchor.flatten(), strict=True)):
            omega = 1 if importance is None else importance[index].flatten()[place]
            total = total + omega * (w - w0) ** 2
    return total


def path_importance(path, displacement, damping):
    """max(path, 0) / (displacement^2 + xi)."""
    pairs = zip(path.flatten(), displacement.flatten(), strict=True)
    return stacked([(p if float(p.detach()) > 0 else p * 0) / (d**2 + damping) for p, d in pairs]).reshape(path.shape)


def root(square):
    """The square root, with a gradient of 0 at 0."""
    return square * 0 if float(square.detach()) == 0 else square.sqrt()


def gram(v):
    """G[a,b] = sum_ij v[a,i,j] v[b,i,j] / (H W), per sample."""
    n, channels, height, width = v.shape
    return stacked(
        [
            [
                [
                    sum(v[m, a, i, j] * v[m, b, i, j] for i, j in positions(v)) / (height * width)
                    for b in range(channels)
                ]
                for a in range(channels)
            ]
            for m in range(n)
        ]
    )


def frobenius(matrix):
    return root(sum(value**2 for value in matrix.flatten()))


def gram_distance(student, teacher):
    """||G(f) - G(f_o)||_F / C, per sample."""
    ours, theirs = gram(student), gram(teacher)
    return stacked([frobenius(a - b) / student.shape[1] for a, b in zip(ours, theirs, strict=True)])


def gram_generalization(style, stylized, plain, threshold):
    """||(G(s) - G(x_s)) o [G(x_s) - G(x) > threshold]||_F / C, per sample."""
    losses = []
    for s, x_s, x in zip(gram(style), gram(stylized), gram(plain), strict=True):
        brought = [
            (a - b) ** 2
            for a, b, c in zip(s.flatten(), x_s.flatten(), x.flatten(), strict=True)
            if float((b - c).detach()) > threshold
        ]
        losses.append(root(sum(brought, start=s.sum() * 0)) / style.shape[1])
    return stacked(losses)


def object_cells(masks, things, size, majority):
    """Whether any thing has that share of the pixels of a cell; cell i covers floor(i S/s) to ceil((i+1) S/s) - 1."""
    found = torch.zeros(len(masks), *size, dtype=torch.bool)
    for m in range(len(masks)):
        for row in range(size[0]):
            for column in range(size[1]):
                inside = []
                for i in range(
                    math.floor(row * masks.shape[1] / size[0]), math.ceil((row + 1) * masks.shape[1] / size[0])
                ):
                    left = math.floor(column * masks.shape[2] / size[1])
                    right = math.ceil((column + 1) * masks.shape[2] / size[1])
                    inside += [int(masks[m, i, j]) for j in range(left, right)]
                found[m, row, column] = any(inside.count(thing) >= majority * len(inside) for thing in things)
    return found


def masked_feature_l2(student, teacher, cells, squared=False):
    """Mean over marked positions of ||f - f_o||_2, or of the mean over channels of the square; 0 if none is marked."""
    distances = []
    for m in range(len(student)):
        for i, j in positions(student):
            if cells[m, i, j]:
                square = sum((a - b) ** 2 for a, b in zip(student[m, :, i, j], teacher[m, :, i, j], strict=True))
                distances.append(square / student.shape[1] if squared else root(square))
    return sum(distances) / len(distances) if distances else (student.sum() + teacher.sum()) * 0


def miro(student, teacher, variance):
    """1/2 mean of (f - f_o)^2 / s + log s."""
    terms = [
        (student[m, c, i, j] - teacher[m, c, i, j]) ** 2 / variance[c] + variance[c].log()
        for m in range(len(student))
        for c in range(student.shape[1])
        for i, j in positions(student)
    ]
    return sum(terms) / len(terms) / 2


def pyramid_consistency(views, sizes):
    """Mean over views, sizes, samples, channels and cells of |P_s(v_k) - mean_k P_s(v_k)|, the mean held fixed."""
    means = []
    for size in sizes:
        pooled = [grid_average(view, size) for view in views]
        centre = sum(view.detach() for view in pooled) / len(pooled)
        distances = [
            (value - middle)
            * (1 if float(value.detach()) > float(middle) else -1 if float(value.detach()) < float(middle) else 0)
            for view in pooled
            for value, middle in zip(view.flatten(), centre.flatten(), strict=True)
        ]
        means.append(sum(distances) / len(distances))
    return sum(means) / len(means)
