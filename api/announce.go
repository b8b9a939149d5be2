package api

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"tollbook/domain"
	"tollbook/projections"
)

// thresholdSpace makes the ids of threshold events: the same crossing has the
// same id whoever announces it, so that a listener can tell repeats.
var thresholdSpace = uuid.MustParse("6f1c9a52-5f0e-4f7e-9a42-2d6f3a1f6f0b")

// ThresholdEvent is the CloudEvent that announces a crossing, and its subject.
func ThresholdEvent(c projections.Crossing, at domain.Instant) (subject string, payload []byte, err error) {
	name := fmt.Sprintf("%q", []string{c.Tenant, c.Month, c.Country, c.Plan, c.User, c.Bucket, fmt.Sprint(c.Percent)})
	payload, err = json.Marshal(struct {
		SpecVersion string               `json:"specversion"`
		ID          string               `json:"id"`
		Source      string               `json:"source"`
		Type        domain.Type          `json:"type"`
		Time        string               `json:"time"`
		Tenant      string               `json:"tenant"`
		Data        projections.Crossing `json:"data"`
	}{"1.0", uuid.NewSHA1(thresholdSpace, []byte(name)).String(), "tollbook", domain.TypeThresholdReached, at.String(), c.Tenant, c})
	return "tollbook." + c.Tenant + ".pool.threshold", payload, err
}
