"""The mathematics as pure functions of tensors and floats: pooling, contrast with queues, distances, losses, measures.

No module, no configuration and no state live here.
"""

from synreal.functional.averages import wise_ft
from synreal.functional.calibration import calibration_bins, calibration_error
from synreal.functional.circle import angle_density, plane_angles, principal_plane, variance_in_plane
from synreal.functional.cka import cka_numbers, cka_of_sums, cka_sums, linear_cka, pilot_mean
from synreal.functional.colours import lab_to_rgb, match_moments, rgb_to_lab, spread_and_mean
from synreal.functional.confusion import class_iou, class_recall, confusion_matrix, share_right
from synreal.functional.consistency import pyramid_consistency
from synreal.functional.contrast import causal_invariance, info_nce, queue_logsumexp
from synreal.functional.distances import (
    distillation_kl,
    feature_l2,
    guidance,
    masked_feature_l2,
    miro,
    path_importance,
    pooled_difference,
    weight_l2,
)
from synreal.functional.draws import fold_in, normal, permutation, random_words, symmetric_beta, uniform
from synreal.functional.drift import weight_drift
from synreal.functional.energy import energy_of_tiles, energy_tiles, hyperspherical_energy
from synreal.functional.losses import pixel_cross_entropy
from synreal.functional.objects import box_masks, covered_cells, object_cells
from synreal.functional.pooling import attention_weights, attentional_pool, gap, grid_average, patches, pool, unit
from synreal.functional.precision import to_float64
from synreal.functional.projections import (
    displacement,
    next_radius,
    project_rows,
    radius_slope,
    row_norms,
    spd_share,
)
from synreal.functional.pseudo_labels import class_balanced_labels, class_thresholds, confidence_bins
from synreal.functional.saliency import grad_cam
from synreal.functional.shift import agreement, thresholded_confidence
from synreal.functional.spectrum import amplitude_deviation, mix_amplitude, perturb_amplitude
from synreal.functional.statistics import (
    channel_statistics,
    match_distributions,
    mix_statistics,
    perturb_statistics,
    relative_spread,
    shift_statistics,
)
from synreal.functional.texture import gram, gram_distance, gram_generalization
from synreal.functional.whitening import (
    covariance_variance,
    instance_covariance,
    lowest_cluster,
    sensitive_entries,
    whitening_loss,
)

__all__ = [
    "agreement",
    "amplitude_deviation",
    "angle_density",
    "attention_weights",
    "attentional_pool",
    "box_masks",
    "calibration_bins",
    "calibration_error",
    "causal_invariance",
    "channel_statistics",
    "cka_numbers",
    "cka_of_sums",
    "cka_sums",
    "class_balanced_labels",
    "class_iou",
    "class_recall",
    "class_thresholds",
    "confidence_bins",
    "confusion_matrix",
    "covariance_variance",
    "covered_cells",
    "displacement",
    "distillation_kl",
    "energy_of_tiles",
    "energy_tiles",
    "feature_l2",
    "fold_in",
    "gap",
    "grad_cam",
    "gram",
    "gram_distance",
    "gram_generalization",
    "grid_average",
    "guidance",
    "hyperspherical_energy",
    "info_nce",
    "instance_covariance",
    "lab_to_rgb",
    "linear_cka",
    "lowest_cluster",
    "masked_feature_l2",
    "match_distributions",
    "match_moments",
    "miro",
    "mix_amplitude",
    "mix_statistics",
    "next_radius",
    "normal",
    "object_cells",
    "patches",
    "path_importance",
    "permutation",
    "perturb_amplitude",
    "perturb_statistics",
    "pilot_mean",
    "pixel_cross_entropy",
    "plane_angles",
    "pool",
    "pooled_difference",
    "principal_plane",
    "project_rows",
    "pyramid_consistency",
    "queue_logsumexp",
    "radius_slope",
    "random_words",
    "relative_spread",
    "rgb_to_lab",
    "row_norms",
    "sensitive_entries",
    "share_right",
    "shift_statistics",
    "spd_share",
    "spread_and_mean",
    "symmetric_beta",
    "thresholded_confidence",
    "to_float64",
    "uniform",
    "unit",
    "variance_in_plane",
    "weight_drift",
    "weight_l2",
    "whitening_loss",
    "wise_ft",
]
