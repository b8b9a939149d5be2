package domain

import "time"

// Zone is where the tenant's days of a month begin and end (R1).
func (l *Ledger) Zone(tenant string, id Month) *time.Location {
	if a := l.accounts[tenant]; a != nil {
		return a.config(id).Zone
	}
	return defaultConfig.Zone
}
