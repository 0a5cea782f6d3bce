package leadgate.client;

import java.util.Locale;

/** The criticality of a call: under load, calls of higher criticality are served first. */
public enum Criticality {
    /** The highest criticality. */
    CRITICAL_PLUS,
    /** Above the default. */
    CRITICAL,
    /** The default. */
    SHEDDABLE_PLUS,
    /** Background work. */
    SHEDDABLE;

    String header() {
        return name().toLowerCase(Locale.ROOT).replace('_', '-');
    }
}
