package config

// Names returns the names of the options that do not say where others come from.
func Names() []string {
	var names []string
	for _, o := range options() {
		if !o.ignored() && !o.bootstrap() {
			names = append(names, o.name)
		}
	}
	return names
}
