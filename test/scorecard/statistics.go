//go:build linux

package main

import (
	"cmp"
	"math"
	"slices"
)

// confidence is the number of standard errors of a two-sided interval of 99 %.
const confidence = 2.576

// auc returns how likely a value of a is larger than one of b, ties being half: the area
// under the ROC curve, from the statistic of Mann and Whitney. 0.5 means that nobody can
// tell them apart by the value. margin is half the 99 % interval around it, by the
// normal approximation for equal distributions.
func auc(a, b []float64) (area, margin float64) {
	type value struct {
		of  float64
		isA bool
	}
	all := make([]value, 0, len(a)+len(b))
	for _, v := range a {
		all = append(all, value{of: v, isA: true})
	}
	for _, v := range b {
		all = append(all, value{of: v})
	}
	slices.SortFunc(all, func(x, y value) int { return cmp.Compare(x.of, y.of) })
	sum := 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].of == all[i].of {
			j++
		}
		rank := float64(i+j+1) / 2 // the mean rank of equal values, from 1
		for ; i < j; i++ {
			if all[i].isA {
				sum += rank
			}
		}
	}
	n, m := float64(len(a)), float64(len(b))
	area = (sum - n*(n+1)/2) / (n * m)
	return area, confidence * math.Sqrt((n+m+1)/(12*n*m))
}

// welch returns Welch's t of two samples.
func welch(a, b []float64) float64 {
	meanA, varianceA := moments(a)
	meanB, varianceB := moments(b)
	return (meanA - meanB) / math.Sqrt(varianceA/float64(len(a))+varianceB/float64(len(b)))
}

func moments(values []float64) (mean, variance float64) {
	for _, v := range values {
		mean += v
	}
	mean /= float64(len(values))
	for _, v := range values {
		variance += (v - mean) * (v - mean)
	}
	return mean, variance / float64(len(values)-1)
}

// median returns the middle of values.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
