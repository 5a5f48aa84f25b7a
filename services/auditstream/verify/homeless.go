package verify

// homeless is an object that has no workspace in the ledger.
type homeless struct {
	key  Key
	dead DeadObject
}

// setAside remembers the last of the dead objects when its source was not known.
func (v *verification) setAside(key Key, counts *Totals) {
	if key.Workspace != "" || counts.Lines > 0 {
		return
	}
	if v.homeless == nil {
		v.homeless, v.takenIn = make(map[string]homeless), make(map[DeadObject]bool)
	}
	v.homeless[key.Object] = homeless{key, v.report.Dead[len(v.report.Dead)-1]}
}

// takeIn: an object that was set aside for its source was not configured has no
// workspace in the ledger; put back, it is entered once more, under the
// workspace that it has now. That one comes later in the keys' order.
func (v *verification) takeIn(key Key) {
	before, found := v.homeless[key.Object]
	if !found || before.key == key {
		return
	}
	delete(v.homeless, key.Object)
	v.takenIn[before.dead] = true
	of := [2]string{before.key.Workspace, before.key.Source}
	v.count(before.key, Totals{Objects: -1, Dead: -1})
	if v.totals[of].Totals == (Totals{}) {
		delete(v.totals, of)
	}
}
